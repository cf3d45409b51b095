"""Anomalous regions of an image: its cells at or over a distance, joined where they touch, as GeoJSON (RFC 7946)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.features import shapes
from rasterio.transform import IDENTITY
from scipy.ndimage import label
from shapely.geometry.base import BaseGeometry

from ssvq.results.ground import on_the_ground
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.ledger_row import ImageRow

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
ELLIPSOID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Region:
    """Connected cells, also over corners.

    `outline`: polygon or multipolygon in the image's pixels, clipped to the image. `distance_max` and `distance_mean`:
    of its cells. `pixels`: its area. `worst_at`: x and y of the first pixel of the cell with the largest distance.
    """

    outline: BaseGeometry
    distance_max: float
    distance_mean: float
    pixels: float
    worst_at: tuple[int, int]


def find_regions(
    heat: HeatMap, width: int, height: int, threshold: float, goes_on: float | None = None
) -> list[Region]:
    """The regions of an image of `width` x `height` pixels with cell distances at or over the threshold, the largest
    distance first.

    A region extends over cells at or over `goes_on` (default: the threshold). Cells without a score belong to none.
    """
    labels, _ = label(
        np.nan_to_num(heat.values, nan=-np.inf) >= (threshold if goes_on is None else goes_on),
        structure=EIGHT_NEIGHBOURS,
    )
    # From here on only the cells of regions are used: they are few.
    places = np.flatnonzero(labels)
    numbers, distances = labels.ravel()[places], heat.values.ravel()[places]
    order = np.lexsort((places, -distances, numbers))  # by region, the largest distance first
    numbers, distances, places = numbers[order], distances[order], places[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=0))
    hot = distances[starts] >= threshold
    if not hot.any():
        return []
    counts = np.diff(starts, append=len(numbers))
    average = np.add.reduceat(distances, starts, dtype=np.float64) / counts
    labels[~np.concatenate([[False], hot])[labels]] = 0
    rows, cols = np.unravel_index(places[starts], heat.values.shape)
    outlines = _to_pixels(_outlines(labels), heat, width, height)
    regions = [
        Region(
            outline,
            distance_max=float(distances[starts[at]]),
            distance_mean=float(average[at]),
            pixels=area,
            worst_at=(int(cols[at] * heat.pitch_x), int(rows[at] * heat.pitch_y)),
        )
        for at, outline, area in zip(
            np.flatnonzero(hot).tolist(), outlines, shapely.area(outlines).tolist(), strict=True
        )
    ]
    return sorted(regions, key=lambda region: -region.distance_max)


def _to_pixels(cells: list[BaseGeometry], heat: HeatMap, width: int, height: int) -> NDArray[np.object_]:
    """Outlines in cells as outlines in pixels, clipped to the image."""
    limit = np.array([width, height], float)
    return shapely.transform(
        np.array(cells, object), lambda points: np.minimum(points * (heat.pitch_x, heat.pitch_y), limit)
    )


def region_features(regions: list[Region], image: ImageRow, threshold: float) -> list[dict[str, Any]] | None:
    """GeoJSON features of regions, in longitude and latitude; None if the image has no place on the map."""
    features = []
    for region in regions:
        geometry = on_the_ground(region.outline, image)
        if geometry is None:
            return None
        square_metres, _ = ELLIPSOID.geometry_area_perimeter(geometry)
        properties = {
            "image": image.image_uri,
            "survey": image.survey,
            "model_id": image.model_id,
            "score_max": region.distance_max,
            "score_mean": region.distance_mean,
            "threshold": threshold,
            "area_pixels": region.pixels,
            "area_m2": abs(square_metres),
        }
        features.append({"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": properties})
    return features


def _outlines(labels: NDArray[np.int32]) -> list[BaseGeometry]:
    """Outlines of the labelled regions, in cells, by their number.

    Parts that touch only at a corner are separate polygons: one ring around both would touch itself, which is invalid.
    """
    polygons: dict[int, list[BaseGeometry]] = {}
    for geometry, number in shapes(labels, mask=labels > 0, connectivity=4, transform=IDENTITY):
        polygons.setdefault(int(number), []).append(shapely.geometry.shape(geometry))
    return [parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts) for _, parts in sorted(polygons.items())]
