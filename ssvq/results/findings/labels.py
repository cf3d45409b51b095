"""Turns decisions into labels, as rows of LABELS: what a training learns from confirmed and rejected findings.

Confirmed and resolved regions are anomalous, rejected ones normal. Where two overlap, the later one counts. For each
scored tile that a region touches:

- the anomalous part is a row with its outline;
- a tile whose findings are all rejected is one row without an outline: all of it is normal;
- the rejected part of a tile with other findings is a row with its outline.

The rest of a tile gets no label, so a label never covers more than a person has seen and judged.
"""

from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.tile_labels import ANOMALOUS, NORMAL, LabelRow, TilePlace
from ssvq.results.findings.decisions import Decision, in_order
from ssvq.results.findings.states import latest_by_region

NOWHERE = shapely.MultiPolygon()


def label_tiles(
    tiles: Sequence[TilePlace],
    fingerprint: str,
    decisions: Sequence[Decision],
    undecided: Sequence[BaseGeometry] | None,
    only_near: Sequence[BaseGeometry],
) -> tuple[list[LabelRow], set[TilePlace]]:
    """Labels of the tiles of one version of an image, and the positions of these tiles, whose earlier labels they
    replace.

    `fingerprint`: of the image. `decisions`: all decisions on that version. `undecided`: outlines of its undecided
    findings, or None if unknown; then no tile is normal as a whole. `only_near`: only tiles that this area touches.
    """
    counting = [one for one in latest_by_region(in_order(decisions)) if one.state != "new"]
    anomalous, normal = NOWHERE, NOWHERE
    for one in counting:
        if one.state == "rejected":
            anomalous, normal = shapely.difference(anomalous, one.region), shapely.union(normal, one.region)
        else:
            anomalous, normal = shapely.union(anomalous, one.region), shapely.difference(normal, one.region)
    rows: list[LabelRow] = []
    places = set()
    for tile in tiles:
        box = shapely.box(tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)
        if not _touches(box, only_near):
            continue
        places.add(tile)
        parts = {ANOMALOUS: _area_of(shapely.intersection(anomalous, box))}
        parts[NORMAL] = _area_of(shapely.intersection(normal, box))
        is_normal = parts[ANOMALOUS] is None and undecided is not None and not _touches(box, undecided)
        about = [one for one in counting if _touches(box, [one.region])]
        for label, part in parts.items():
            if part is not None:
                outline = None if label == NORMAL and is_normal else shapely.to_wkb(part)
                rows.append(LabelRow(tile, fingerprint, label, about[-1].decided_by, about[-1].decided_at, outline))
    return rows, places


def _touches(box: BaseGeometry, regions: Sequence[BaseGeometry]) -> bool:
    """Whether any of the regions shares an area with a tile."""
    return bool(len(regions)) and bool(np.any(shapely.area(shapely.intersection(box, list(regions))) > 0))


def _area_of(shape: BaseGeometry) -> BaseGeometry | None:
    """The polygons in the result of an intersection, which may hold lines and points too; None without any."""
    parts = [part for part in shapely.get_parts(shape) if isinstance(part, shapely.Polygon) and part.area > 0]
    return shapely.MultiPolygon(parts) if parts else None
