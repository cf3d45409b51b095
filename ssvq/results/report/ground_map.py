"""The map of a report: outlines in longitude and latitude as SVG paths, without a background from the network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
import shapely
from matplotlib.colors import to_hex
from shapely.geometry.base import BaseGeometry

from ssvq.results.pictures.heat import COLOURS, FULL_SCALE

WIDTH, TALLEST, MARGIN = 1000, 520, 20  # units of the SVG
MARK_APART = 24  # units of the SVG between the centres of two numbers
METRES_IN_DEGREE = 111_320  # of latitude


class MapImage(NamedTuple):
    """An image on the map. `place`: its footprint or the position of the camera, None if both are unknown. `worst`: its
    highest score.
    """

    image_id: str
    place: BaseGeometry | None
    worst: float | None = None


class MapTile(NamedTuple):
    """A tile on the map. `geometry`: WKB in longitude and latitude."""

    image_id: str
    score: float
    geometry: bytes


@dataclass(frozen=True)
class Shape:
    """A path, the position of its image in the page's table, its score, and a colour where it is filled."""

    path: str
    image: int
    score: float | None
    colour: str | None = None


@dataclass(frozen=True)
class GroundMap:
    """Paths in the order in which they are drawn, and a scale bar (units of the SVG, text)."""

    width: int
    height: int
    outlines: list[Shape]
    tiles: list[Shape]
    bar: float
    bar_text: str
    marks: list[tuple[int, float, float]]
    """Numbers from 1 and where they are drawn: number, x, y."""


def heat_colour(score: float, threshold: float) -> str:
    """The colour of a score on the scale of the heat."""
    share = score / (FULL_SCALE * threshold) if threshold > 0 else 0.0
    return str(to_hex(matplotlib.colormaps[COLOURS](min(max(share, 0.0), 1.0))))


def draw_map(
    images: Sequence[MapImage],
    tiles: Sequence[MapTile],
    threshold: float | None,
    marked: Sequence[bytes | None] = (),
) -> GroundMap | None:
    """Outlines of images and, over them, their worst tiles, the worst on top. None if nothing has a position.

    `marked`: WKB of places, or None, that are numbered unless they would hide an earlier number.
    """
    centres = {i: shapely.from_wkb(wkb).representative_point() for i, wkb in enumerate(marked, 1) if wkb is not None}
    places = [(i, image.place) for i, image in enumerate(images) if image.place is not None]
    if not places and not tiles:
        return None
    position = {image.image_id: i for i, image in enumerate(images)}
    shapes = [shapely.from_wkb(tile.geometry) for tile in tiles]
    everything = shapely.GeometryCollection([place for _, place in places] + shapes)
    if everything.bounds[2] - everything.bounds[0] > 180:  # it lies on both sides of the antimeridian
        places = [(i, _eastwards(place)) for i, place in places]
        shapes = [_eastwards(shape) for shape in shapes]
        centres = {i: _eastwards(centre) for i, centre in centres.items()}
        everything = shapely.GeometryCollection([place for _, place in places] + shapes)
    west, south, east, north = everything.bounds
    stretch = max(0.01, math.cos(math.radians((south + north) / 2)))
    span_x, span_y = max((east - west) * stretch, 1e-6), max(north - south, 1e-6)
    scale = min((WIDTH - 2 * MARGIN) / span_x, (TALLEST - 2 * MARGIN) / span_y)
    height = math.ceil(span_y * scale) + 2 * MARGIN
    left = (WIDTH - span_x * scale) / 2

    def to_page(points: np.ndarray) -> np.ndarray:
        x = left + (points[:, 0] - west) * stretch * scale
        return np.column_stack([x, MARGIN + (north - points[:, 1]) * scale])

    def coloured(shape: BaseGeometry, i: int, score: float | None, filled: bool) -> Shape:
        colour = heat_colour(score, threshold) if filled and score is not None and threshold is not None else None
        return Shape(_path(shapely.transform(shape, to_page)), i, score, colour)

    with_tiles = {tile.image_id for tile in tiles}
    outlines = [coloured(place, i, images[i].worst, images[i].image_id not in with_tiles) for i, place in places]
    drawn = [
        coloured(shape, position[tile.image_id], tile.score, True)
        for tile, shape in zip(tiles, shapes, strict=True)
        if tile.image_id in position
    ]
    bar, text = _scale_bar(scale)
    marks = _apart({i: to_page(shapely.get_coordinates(centre))[0] for i, centre in centres.items()})
    return GroundMap(WIDTH, height, outlines[::-1], drawn[::-1], bar, text, marks)


def _apart(points: dict[int, np.ndarray]) -> list[tuple[int, float, float]]:
    """The numbered points that lie apart from all earlier ones."""
    kept: list[tuple[int, float, float]] = []
    for number, (x, y) in points.items():
        if all(math.hypot(x - other_x, y - other_y) >= MARK_APART for _, other_x, other_y in kept):
            kept.append((number, round(float(x), 1), round(float(y), 1)))
    return kept


def _eastwards(shape: BaseGeometry) -> BaseGeometry:
    return shapely.transform(shape, lambda points: np.column_stack([points[:, 0] % 360, points[:, 1]]))


def _path(shape: BaseGeometry) -> str:
    """The data of an SVG path, to a tenth of a unit, which no screen resolves."""
    pieces = []
    for part in shapely.get_parts(shape):
        if part.geom_type == "Point":
            pieces.append(f"M{part.x - 5:.1f},{part.y:.1f}a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z")
        else:
            ring = shapely.get_coordinates(shapely.simplify(part, 0.05).exterior)[:-1]
            pieces.append("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in ring) + "z")
    return "".join(pieces)


def _scale_bar(scale: float) -> tuple[float, str]:
    """A round length of about a fifth of the map."""
    metres = WIDTH / 5 / scale * METRES_IN_DEGREE
    power = 10.0 ** math.floor(math.log10(metres))
    round_metres = max(step * power for step in (1, 2, 5) if step * power <= metres)
    text = f"{round_metres / 1000:g} km" if round_metres >= 1000 else f"{round_metres:g} m"
    return round_metres / METRES_IN_DEGREE * scale, text
