"""Compares the findings of one image with what earlier images showed at the same places.

The frame is the later image's pixels. A place is compared with one earlier image: of those that show the place, the one
that shows most of the later image. So a patch in several overlapping photographs is not counted twice.

Regions that touch, or lie at most a cell apart, form a group, since a patch may have been two, or may split. The growth
of a finding is that of its group: the area of its later regions divided by that of its earlier ones, both where the two
images saw it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

SEEN = 0.5
"""Share of a region that the other survey must have seen before its absence there means anything."""

DEVIATIONS = 2.0
"""Two areas are the same if they differ by at most this many standard deviations of the error of cells."""


@dataclass(frozen=True)
class Regions:
    """Regions of an image in one frame, all in pixels of the later image.

    `outlines`: polygons (n,), with `ids`. `seen`: where the image was scored. `cell`: side of a heat cell. `error`: how
    far positions may be off.
    """

    ids: Sequence[str]
    outlines: NDArray[np.object_]
    seen: BaseGeometry
    cell: float
    error: float = 0.0


@dataclass(frozen=True)
class Change:
    """The change at one place. `change`: as the column of FINDINGS. `previous_id`, `previous_area` (pixels of the later
    image) and `growth` are None if there was nothing, or if nothing was seen.
    """

    change: str | None
    previous_id: str | None = None
    previous_area: float | None = None
    growth: float | None = None


@dataclass(frozen=True)
class Lost:
    """An earlier region whose place this image saw and where it finds nothing. `outline`: the part that was seen."""

    finding_id: str
    outline: BaseGeometry


@dataclass(frozen=True)
class Comparison:
    """`changes` of the later findings, in their order; ids of earlier findings with a counterpart; and `lost`."""

    changes: list[Change]
    matched: set[str] = field(default_factory=set)
    lost: list[Lost] = field(default_factory=list)


def compare(later: Regions, earlier: Sequence[Regions], tolerance: float, reach: float | None = None) -> Comparison:
    """Compare the findings of an image with those of earlier images in its frame.

    `tolerance`: share of the earlier area by which an area may differ and still be `unchanged`; at least DEVIATIONS of
    the error of its cells. `reach`: pixels between regions of one group (default: the larger cell of both images plus
    the error of positions).
    """
    pieces, covered = _pieces(later.seen, earlier)
    now = _within(later.outlines, covered)
    areas, whole = shapely.area(now), shapely.area(later.outlines)
    was_seen = areas >= SEEN * whole
    if reach is None:
        reach = max([later.cell, *(image.cell + image.error for image in earlier)])
    groups, near = _groups(later.outlines, pieces, reach)
    changes = [Change("new", previous_area=0.0) if seen else Change(None) for seen in was_seen]
    for at, group in groups:
        parts = [pieces[index] for index in group]
        before, after = sum(part.outline.area for part in parts), float(areas[at].sum())
        noise = math.hypot(
            _area_error(now[at], later.cell),
            *(_area_error(np.array([part.outline], object), part.cell) for part in parts),
        )
        kind = _kind(after, before, max(tolerance * before, DEVIATIONS * noise))
        for index in at:
            if was_seen[index]:
                counterpart = _largest(later.outlines[index], [pieces[i] for i in near[index]])
                share = float(areas[index]) / after * before
                changes[index] = Change(kind, counterpart, share, after / before)
    matched = {pieces[index].finding_id for _, group in groups for index in group}
    lost = [Lost(part.finding_id, part.outline) for part in pieces if part.is_seen and part.finding_id not in matched]
    return Comparison(changes, matched, lost)


def _kind(after: float, before: float, same: float) -> str:
    if abs(after - before) <= same:
        return "unchanged"
    return "grown" if after > before else "shrunk"


def _area_error(outlines: NDArray[np.object_], cell: float) -> float:
    """Standard deviation of an area made of cells.

    A cell on the outline is in or out, while the true area covers any share of it. That has a variance of 1/12 of the
    cell's area squared.
    """
    on_outline = float(shapely.length(outlines).sum()) / cell
    return cell**2 * math.sqrt(on_outline / 12)


@dataclass(frozen=True)
class _Piece:
    """The part of an earlier region that is compared: where its image is the one chosen for the place."""

    finding_id: str
    outline: BaseGeometry
    cell: float
    is_seen: bool


def _pieces(seen: BaseGeometry, earlier: Sequence[Regions]) -> tuple[list[_Piece], BaseGeometry]:
    """The pieces of earlier regions, without overlaps between images; and the area that can be compared."""
    shown = [shapely.intersection(image.seen, seen) for image in earlier]
    left, pieces = seen, []
    for index in sorted(range(len(earlier)), key=lambda index: -shown[index].area):
        image = earlier[index]
        own = shapely.intersection(shown[index], left)
        left = shapely.difference(left, own)
        parts = _within(image.outlines, own)
        for finding_id, whole, part in zip(image.ids, image.outlines, parts, strict=True):
            if part.area >= image.cell**2 / 2:  # smaller pieces are slivers at the edge
                pieces.append(_Piece(finding_id, part, image.cell, part.area >= SEEN * whole.area))
    return pieces, shapely.difference(seen, left)


def _within(outlines: NDArray[np.object_], area: BaseGeometry) -> NDArray[np.object_]:
    """The parts of outlines (n,) within an area, which may have many corners."""
    parts = outlines.copy()
    shapely.prepare(area)
    cut = ~shapely.contains(area, outlines)
    parts[cut] = shapely.intersection(outlines[cut], area)
    return parts


def _groups(
    outlines: NDArray[np.object_], pieces: Sequence[_Piece], reach: float
) -> tuple[list[tuple[NDArray[np.intp], list[int]]], Mapping[int, list[int]]]:
    """Groups that have regions of both surveys, as indices of later regions and of pieces; and the pieces near each
    later region.
    """
    near: dict[int, list[int]] = {index: [] for index in range(len(outlines))}
    if not len(outlines) or not pieces:
        return [], near
    tree = shapely.STRtree([piece.outline for piece in pieces])
    now, before = tree.query(outlines, predicate="dwithin", distance=reach)
    for index, piece in zip(now.tolist(), before.tolist(), strict=True):
        near[index].append(piece)
    n, total = len(outlines), len(outlines) + len(pieces)
    graph = coo_array((np.ones(len(now), bool), (now, n + before)), shape=(total, total))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    by_group = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    found = [(members[members < n], (members[members >= n] - n).tolist()) for members in by_group]
    return [(at, group) for at, group in found if len(at) and group], near


def _largest(outline: BaseGeometry, pieces: Sequence[_Piece]) -> str | None:
    """The id of the piece that shares the largest area with an outline, or else is nearest."""
    if not pieces:
        return None
    shapes = np.array([piece.outline for piece in pieces], object)
    common, apart = shapely.area(shapely.intersection(shapes, outline)), shapely.distance(shapes, outline)
    return pieces[min(range(len(pieces)), key=lambda index: (-common[index], apart[index]))].finding_id
