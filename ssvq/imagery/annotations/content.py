"""The content of a label tool's file, whichever tool wrote it.

All coordinates are pixels of the picture that the tool showed: (0, 0) is the outer corner of its first pixel.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import shapely
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.runs import Runs

LEAST_POINTS = 3
QUARTER_STEPS = 64  # of an ellipse: 0.02 % of its radius at most


class FormatError(Exception):
    """A file breaks its format. The message is the reason, in one line."""


@dataclass(frozen=True)
class Shape:
    """A labelled part of an image, and its category."""

    category: str
    geometry: BaseGeometry | Runs


@dataclass
class AnnotatedImage:
    """The labels of one image.

    `names`: names by which the file may mean it, the likeliest first. `width`, `height`: of the labelled picture, None
    if unknown. `labels`: of the image as a whole. `problem`: why its labels cannot be used.
    """

    names: list[str]
    width: int | None = None
    height: int | None = None
    shapes: list[Shape] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    problem: str | None = None


@dataclass
class Annotations:
    """The content of a file.

    `declared`: categories that it lists. `passed_over`: kinds of content that are not read, with counts. `unlabelled`:
    names of images that nobody has labelled yet.
    """

    tool: str
    images: list[AnnotatedImage] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    unlabelled: list[list[str]] = field(default_factory=list)

    @property
    def categories(self) -> list[str]:
        """The listed categories and those of shapes and images, in order."""
        used = {name for image in self.images for name in [*(s.category for s in image.shapes), *image.labels]}
        return sorted({*self.declared, *used})


def polygon(points: Sequence[Sequence[float]]) -> BaseGeometry:
    """A polygon from points, x and y; an empty one for fewer than three, which enclose nothing."""
    return shapely.Polygon([(x, y) for x, y in points] if len(points) >= LEAST_POINTS else None)


def rectangle(x: float, y: float, width: float, height: float) -> BaseGeometry:
    """A rectangle by its upper left corner and its size."""
    return shapely.box(x, y, x + width, y + height)


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> BaseGeometry:
    """An ellipse from its centre and radii."""
    circle = shapely.Point(x, y).buffer(1, quad_segs=QUARTER_STEPS)
    return affinity.scale(circle, radius_x, radius_y, origin=(x, y))


def turned(geometry: BaseGeometry, degrees: float, origin: tuple[float, float]) -> BaseGeometry:
    """A geometry turned clockwise as seen on screen, where y runs downwards."""
    return affinity.rotate(geometry, degrees, origin=origin) if degrees else geometry
