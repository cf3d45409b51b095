"""Turns the entry of a label tool's file into an image with label and mask."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import shapely
from shapely.geometry.base import BaseGeometry

from ssvq import logs
from ssvq.errors import ImageError, InputError
from ssvq.imagery.annotations.content import AnnotatedImage, Annotations, Shape
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage
from ssvq.imagery.drawing import Drawing
from ssvq.imagery.masks import ANOMALOUS
from ssvq.imagery.runs import Runs
from ssvq.imagery.vocabulary import BACKGROUND_WORDS, label_of

ROUNDING = 1.0  # pixels by which tools let a shape extend over the edge


@dataclass
class Labelling:
    """Labels the images of one file. `anomalous`: the anomalous categories. `counts`: shapes that are not taken
    whole, by reason.
    """

    anomalous: frozenset[str]
    counts: Counter[str] = field(default_factory=Counter)

    def apply(self, image: SourceImage, said: AnnotatedImage, mask_uri: str) -> SourceImage:
        """The image with its labels: a mask of what is anomalous, and a label, the names of that, or NORMAL_LABEL. It
        keeps a label that it has.

        Raises ImageError (stage `mask`) if the entry cannot be used.
        """
        if said.problem is not None:
            raise ImageError("mask", said.problem)
        shapes = [shape for shape in said.shapes if shape.category in self.anomalous]
        of_image = [name for name in said.labels if name in self.anomalous]
        if shapes and said.labels and not of_image:
            whole, part = said.labels[0], shapes[0].category
            raise ImageError("mask", f"is labelled {whole!r} as a whole and {part!r} in a part: which one is right?")
        names = sorted({shape.category for shape in shapes} | set(of_image))
        if not names:
            return replace(image, label=image.label or NORMAL_LABEL)
        labelled = replace(image, label=image.label or "+".join(names))
        drawing = self._draw(said, shapes, tuple(sorted({shape.category for shape in shapes})))
        if drawing is None:
            if not of_image:
                raise ImageError("mask", "has only shapes outside it or without area")
            return labelled
        fingerprint = f"{image.fingerprint}+{drawing.digest}"
        return replace(labelled, mask=Mask(mask_uri, drawing=drawing), fingerprint=fingerprint)

    def _draw(self, said: AnnotatedImage, shapes: Sequence[Shape], classes: tuple[str, ...]) -> Drawing | None:
        """The anomalous parts of an image; None if none lies within it."""
        polygons: list[tuple[int, str]] = []
        masks: list[tuple[int, Runs]] = []
        for shape in shapes:
            number = min(classes.index(shape.category) + 1, ANOMALOUS)
            within = self._within(shape.geometry, said)
            if isinstance(within, Runs):
                masks.append((number, within))
            elif within is not None:
                polygons.append((number, shapely.to_wkb(within, hex=True)))
        if not polygons and not masks:
            return None
        return Drawing(said.width, said.height, classes, tuple(polygons), tuple(masks))

    def _within(self, shape: BaseGeometry | Runs, said: AnnotatedImage) -> BaseGeometry | Runs | None:
        """The part of a shape within its image, if the size is known; counts what is cut off."""
        bounds, encloses = _extent(shape)
        if not encloses:
            self.counts["enclose nothing"] += 1
            return None
        if said.width is None or said.height is None:
            return shape
        left, top, right, bottom = bounds
        if right <= 0 or bottom <= 0 or left >= said.width or top >= said.height:
            self.counts["lie outside of their image"] += 1
            return None
        over = max(-left, -top, right - said.width, bottom - said.height)
        if over > ROUNDING:
            self.counts["reach over the edge of their image, and are cut there"] += 1
            if not isinstance(shape, Runs):
                return _cut(shape, said.width, said.height)
        return shape


def _extent(shape: BaseGeometry | Runs) -> tuple[tuple[float, float, float, float], bool]:
    """Left, top, right and bottom of a shape, and whether it encloses anything."""
    if isinstance(shape, Runs):
        return (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height), shape.area() > 0
    if shape.is_empty:
        return (0, 0, 0, 0), False
    left, top, right, bottom = shape.bounds
    return (left, top, right, bottom), left < right and top < bottom


def _cut(shape: BaseGeometry, width: int, height: int) -> BaseGeometry | None:
    """The part of a polygon within an image, or None. A polygon that crosses itself is filled as when drawn."""
    cut = shapely.intersection(shapely.make_valid(shape), shapely.box(0, 0, width, height))
    parts = [part for part in shapely.get_parts(cut) if isinstance(part, shapely.Polygon)]
    return shapely.MultiPolygon(parts) if parts else None


def anomalous_categories(
    annotations: Annotations, classes: Sequence[int | str] | None, normal_labels: Sequence[str]
) -> frozenset[str]:
    """The anomalous categories: those that `classes` names, ignoring case; by default all that are not words for normal
    or background.

    Raises InputError if the file has categories, but none of these.
    """
    known = annotations.categories
    if classes is None:
        more = (*BACKGROUND_WORDS, *normal_labels)
        return frozenset(name for name in known if label_of(name, more) != NORMAL_LABEL)
    wanted = {str(name).strip().lower(): str(name) for name in classes}
    lost = [name for folded, name in wanted.items() if folded not in {one.lower() for one in known}]
    if known and lost:
        told = f"--anomalous-classes: the annotations have no category {lost[0]!r}, but {', '.join(known)}"
        if len(lost) == len(wanted):
            raise InputError(told)
        logs.warning(f"warning: {told}")  # it may be in another file
    return frozenset(name for name in known if name.lower() in wanted)
