"""Anomalous regions of an image: its cells at or over a distance, joined where they touch, as GeoJSON (RFC 7946)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.features import shapes
from rasterio.transform import IDENTITY
from scipy.ndimage import label, maximum, maximum_position, mean
from shapely.geometry.base import BaseGeometry

from ssvq.results.ground import on_the_ground
from ssvq.scores.heat_map import HeatMap

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
ELLIPSOID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Region:
    """Cells that touch, also by a corner. `outline` is a polygon or several in the image's pixels, clipped to it; the
    distances are the largest and the mean of its cells, `pixels` the area that it covers of the image, and `worst_at`
    the x and y of the first pixel of the cell with the largest distance.
    """

    outline: BaseGeometry
    distance_max: float
    distance_mean: float
    pixels: float
    worst_at: tuple[int, int]


def find_regions(
    heat: HeatMap, width: int, height: int, threshold: float, goes_on: float | None = None
) -> list[Region]:
    """The regions of an image of `width` x `height` pixels with cell distances at or over the threshold, those with
    the largest distance first. A region goes on where distances are at or over `goes_on`, by default the threshold.
    Cells without a score are in none.
    """
    labels, found = label(
        np.nan_to_num(heat.values, nan=-np.inf) >= (threshold if goes_on is None else goes_on),
        structure=EIGHT_NEIGHBOURS,
    )
    if not found:
        return []
    numbers = np.arange(1, found + 1)
    largest, average = maximum(heat.values, labels, numbers), mean(heat.values, labels, numbers)
    places = maximum_position(heat.values, labels, numbers)
    labels[~np.concatenate([[False], largest >= threshold])[labels]] = 0
    limit = np.array([width, height], float)

    def to_pixels(cells: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.minimum(cells * (heat.pitch_x, heat.pitch_y), limit)

    regions = []
    for number, cells in _outlines(labels):
        outline = shapely.transform(cells, to_pixels)
        distances = float(largest[number - 1]), float(average[number - 1])
        row, col = places[number - 1]
        worst_at = int(col * heat.pitch_x), int(row * heat.pitch_y)
        regions.append(Region(outline, *distances, pixels=float(outline.area), worst_at=worst_at))
    return sorted(regions, key=lambda region: -region.distance_max)


def region_features(regions: list[Region], image: dict[str, Any], threshold: float) -> list[dict[str, Any]] | None:
    """GeoJSON features of regions, in longitude and latitude; None when the image has no place on the map."""
    features = []
    for region in regions:
        geometry = on_the_ground(region.outline, image)
        if geometry is None:
            return None
        square_metres, _ = ELLIPSOID.geometry_area_perimeter(geometry)
        properties = {
            "image": image["image_uri"],
            "survey": image["survey"],
            "model_id": image["model_id"],
            "score_max": region.distance_max,
            "score_mean": region.distance_mean,
            "threshold": threshold,
            "area_pixels": region.pixels,
            "area_m2": abs(square_metres),
        }
        features.append({"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": properties})
    return features


def _outlines(labels: NDArray[np.int32]) -> Iterator[tuple[int, BaseGeometry]]:
    """Number and outline, in cells, of each labelled region. Parts that touch by a corner only are polygons of their
    own: one ring around both would touch itself, which no valid polygon does.
    """
    polygons: dict[int, list[BaseGeometry]] = {}
    for geometry, number in shapes(labels, mask=labels > 0, connectivity=4, transform=IDENTITY):
        polygons.setdefault(int(number), []).append(shapely.geometry.shape(geometry))
    for number, parts in sorted(polygons.items()):
        yield number, parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
