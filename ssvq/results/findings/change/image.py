"""Compares one later image with the earlier images that may show the same place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from ssvq.errors import ImageError
from ssvq.results.findings.change.compare import Change, Comparison, Regions, compare
from ssvq.results.findings.change.frames import Frame, cell_side, move, same_ground, same_view
from ssvq.results.findings.change.pairs import How
from ssvq.results.findings.change.views import Views
from ssvq.scores.ledger_row import ImageRow


@dataclass(frozen=True)
class EarlierImage:
    """An earlier image with its findings: their ids, and their outlines as WKB in its pixels."""

    image: ImageRow
    how: How
    ids: list[str]
    outlines: list[bytes]


@dataclass(frozen=True)
class Tolerance:
    """How areas are compared: `unchanged` and `reach` as in the settings."""

    unchanged: float
    reach: float | None


@dataclass(frozen=True)
class Outcome:
    """The result of a comparison. `unregistered`: why no earlier photograph could be registered with this one; None if
    one was, or if none was needed.
    """

    comparison: Comparison
    unregistered: str | None = None
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Addresses of source images that cannot be read, and why."""


NO_FEATURES = "too few features in common"


def compare_image(
    image: ImageRow,
    ids: Sequence[str],
    outlines: Sequence[bytes],
    earlier: Sequence[EarlierImage],
    views: Views,
    tolerance: Tolerance,
) -> Outcome:
    """Compare the findings of an image with those of the earlier images.

    No image is read if neither side has a finding. Raises InputError if a score map is missing or damaged.
    """
    nothing = Comparison([Change(None)] * len(ids))
    if not earlier or not (ids or any(other.ids for other in earlier)):
        return Outcome(nothing)
    shown, unread, problem = [], [], None
    for other in earlier:
        try:
            frame, error = _frame(image, other, views)
        except _UnreadError as found:
            unread.append((found.uri, found.reason))
            problem = "a source image cannot be read"
            continue
        if frame is None:
            problem = problem or NO_FEATURES
            continue
        regions = _in_frame(other, frame, error, views)
        if regions is not None:
            shown.append(regions)
    if not shown:
        return Outcome(nothing, problem, unread)
    own = views.area(image)
    later = Regions(ids, shapely.from_wkb(np.array(outlines, object)), own.area, own.cell)
    return Outcome(compare(later, shown, tolerance.unchanged, tolerance.reach), None, unread)


class _UnreadError(Exception):
    def __init__(self, uri: str, reason: str) -> None:
        self.uri, self.reason = uri, reason
        super().__init__(reason)


def _frame(image: ImageRow, other: EarlierImage, views: Views) -> tuple[Frame | None, float]:
    """The frame from the earlier image to the later one, and its error in pixels; None if they share nothing."""
    if other.how == "ground":
        return same_ground(other.image, image), 0.0
    if other.how == "view":
        return same_view(other.image, image), 0.0
    from ssvq.results.findings.change.registration import register

    features = []
    for one in (image, other.image):
        try:
            features.append(views.features(one))
        except ImageError as error:
            raise _UnreadError(one.image_uri, error.message) from error
    found = register(*features)
    return (None, 0.0) if found is None else (found.frame, found.error)


def _in_frame(other: EarlierImage, frame: Frame, error: float, views: Views) -> Regions | None:
    """The findings of an earlier image in pixels of the later one; None if the image has no place there."""
    scored = views.area(other.image)
    if scored.area.is_empty:
        return None
    seen = move(scored.area, frame)
    if seen is None:
        return None
    moved = [move(shapely.from_wkb(outline), frame) for outline in other.outlines]
    there = [(finding, outline) for finding, outline in zip(other.ids, moved, strict=True) if outline is not None]
    outlines = np.empty(len(there), object)
    outlines[:] = [outline for _, outline in there]
    return Regions([finding for finding, _ in there], outlines, seen, cell_side(frame, scored.cell, scored.area), error)
