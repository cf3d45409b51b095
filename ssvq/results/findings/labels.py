"""From decisions to labels: what a training learns from confirmed and rejected findings, as rows of LABELS.

Confirmed and resolved regions are anomalous, rejected ones normal; where two overlap the later counts. Of each scored
tile that a region lies in:

- the anomalous part of it is a row with the outline of that part;
- a tile all of whose findings are rejected is one row without an outline: all of it is normal;
- the rejected part of a tile that has other findings too is a row with the outline of that part.

Nothing is said of the rest of a tile. So a label is never more than what a person has seen and judged.
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
    """Labels of the tiles of one version of an image, and the tiles that they are about: those that `only_near` lies
    in, whose earlier labels they replace.

    `fingerprint`: of the image. `decisions`: all on that version. `undecided`: outlines
    of its findings that are new, or None where they are not known: then no tile is normal as a whole.
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
    """Whether any of some regions has an area in common with a tile."""
    return bool(len(regions)) and bool(np.any(shapely.area(shapely.intersection(box, list(regions))) > 0))


def _area_of(shape: BaseGeometry) -> BaseGeometry | None:
    """The polygons of what an intersection gives, which may be lines and points too; None without any."""
    parts = [part for part in shapely.get_parts(shape) if isinstance(part, shapely.Polygon) and part.area > 0]
    return shapely.MultiPolygon(parts) if parts else None
