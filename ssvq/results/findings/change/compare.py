"""Findings of one image, and what earlier images showed at the same places.

The frame is the later image's pixels. A place is compared with one earlier image, that which shows most of the later
one among those that show the place: the same patch in several overlapping photographs is not counted several times.
Regions that touch, or lie no farther apart than a cell, are one group: a patch may have been two, or fall into two.
The growth of a finding is that of its group, the area of all its later regions over that of all its earlier ones, both
where the later and the earlier image saw it.
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
"""Share of a region that the other survey must have seen for its being absent there to mean anything."""

DEVIATIONS = 2.0
"""Of the error that cells make in an area, within which two areas are the same."""


@dataclass(frozen=True)
class Regions:
    """Regions of an image in one frame: `outlines` (n,) of polygons, by `ids`; `seen` is where the image was scored,
    and `cell` the side of a cell of its heat; places may be off by `error`. All in pixels of the later image.
    """

    ids: Sequence[str]
    outlines: NDArray[np.object_]
    seen: BaseGeometry
    cell: float
    error: float = 0.0


@dataclass(frozen=True)
class Change:
    """What became of one place. `change` as the column of FINDINGS; `previous_id`, `previous_area` (pixels of the later
    image) and `growth` are None where there was nothing, or nothing was seen.
    """

    change: str | None
    previous_id: str | None = None
    previous_area: float | None = None
    growth: float | None = None


@dataclass(frozen=True)
class Lost:
    """An earlier region that this image saw, and where nothing is found: its `outline`, the part that was seen."""

    finding_id: str
    outline: BaseGeometry


@dataclass(frozen=True)
class Comparison:
    """`changes` of the later findings, in their order; ids of the earlier ones that have a counterpart; and `lost`."""

    changes: list[Change]
    matched: set[str] = field(default_factory=set)
    lost: list[Lost] = field(default_factory=list)


def compare(later: Regions, earlier: Sequence[Regions], tolerance: float, reach: float | None = None) -> Comparison:
    """Compare the findings of an image with those of earlier images in its frame.

    `tolerance`: share of the earlier area by which areas may differ and are `unchanged`, or more where cells are large:
    DEVIATIONS of their error. `reach`: pixels between regions of one group (default: a cell, the larger one of both,
    and the error of their places).
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
    """Standard deviation of an area that is made of cells. A cell on the outline is wholly in or out, while what it
    shows covers any share of it, with a variance of 1/12 of its area squared.
    """
    on_outline = float(shapely.length(outlines).sum()) / cell
    return cell**2 * math.sqrt(on_outline / 12)


@dataclass(frozen=True)
class _Piece:
    """What is compared of an earlier region: the part where its image is the one that places are compared with."""

    finding_id: str
    outline: BaseGeometry
    cell: float
    is_seen: bool


def _pieces(seen: BaseGeometry, earlier: Sequence[Regions]) -> tuple[list[_Piece], BaseGeometry]:
    """The pieces of earlier regions, none upon another of another image; and where there is anything to compare."""
    shown = [shapely.intersection(image.seen, seen) for image in earlier]
    left, pieces = seen, []
    for index in sorted(range(len(earlier)), key=lambda index: -shown[index].area):
        image = earlier[index]
        own = shapely.intersection(shown[index], left)
        left = shapely.difference(left, own)
        parts = _within(image.outlines, own)
        for finding_id, whole, part in zip(image.ids, image.outlines, parts, strict=True):
            if part.area >= image.cell**2 / 2:  # what is less is a sliver at the edge
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
    """Groups with a region of both times, as positions in the later ones and in the pieces; and by position of a later
    one the pieces that it is near.
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
    """The id of the piece that an outline has most in common with, or is nearest to."""
    if not pieces:
        return None
    shapes = np.array([piece.outline for piece in pieces], object)
    common, apart = shapely.area(shapely.intersection(shapes, outline)), shapely.distance(shapes, outline)
    return pieces[min(range(len(pieces)), key=lambda index: (-common[index], apart[index]))].finding_id
