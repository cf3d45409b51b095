"""Footprints of tiles on the ground, in longitude and latitude (OGC:CRS84)."""

from typing import Protocol

import antimeridian
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_coordinates

Transform = tuple[float, float, float, float, float, float]


class Placed(Protocol):
    """What may have a georeference, such as the header of an image."""

    @property
    def crs(self) -> str | None:
        """Coordinate reference system."""

    @property
    def transform(self) -> Transform | None:
        """Affine coefficients a, b, c, d, e, f from pixels to coordinates of `crs`."""


POINTS_PER_SIDE = 4  # a straight side of a tile is a curve in longitude and latitude


def footprints(image: Placed, windows: NDArray[np.integer]) -> NDArray[np.object_]:
    """The polygons of tiles, (n,), from windows x, y, width, height int (n, 4); split at the antimeridian.

    None for tiles of an image without georeference, or with coordinates that do not map to longitude and latitude.
    """
    outlines = np.full(len(windows), None, object)
    if image.crs is None or image.transform is None or not len(windows):
        return outlines
    a, b, c, d, e, f = image.transform
    x, y, width, height = windows.T.astype(float)
    right, bottom = x + width, y + height
    corners = np.stack([x, y, right, y, right, bottom, x, bottom, x, y], axis=1).reshape(len(windows), 5, 2)
    along = np.linspace(0, 1, POINTS_PER_SIDE, endpoint=False)[None, None, :, None]
    ring = (corners[:, :-1, None] * (1 - along) + corners[:, 1:, None] * along).reshape(len(windows), -1, 2)
    if a * e < b * d:
        ring = ring[:, ::-1]  # anticlockwise on the ground, which separates inside from outside around a pole
    col, row = ring[..., 0].ravel(), ring[..., 1].ravel()
    try:
        longitude, latitude = transform_coordinates(
            image.crs, "OGC:CRS84", a * col + b * row + c, d * col + e * row + f
        )
    except (CRSError, CPLE_BaseError):  # GDAL's own errors: a local coordinate system, or a point outside its map
        return outlines
    points = np.stack([longitude, latitude], axis=-1).reshape(ring.shape)
    there = np.isfinite(points).all(axis=(1, 2))
    outlines[there] = _polygons(points[there])
    return outlines


def _polygons(points: NDArray[np.float64]) -> NDArray[np.object_]:
    """Polygons of outlines (n, points, 2) in degrees."""
    beyond = np.abs(points[..., 0]).max(axis=1, initial=0) > 180
    points[beyond, :, 0] = (points[beyond, :, 0] + 180) % 360 - 180
    # A tile never spans half the globe, so a jump of longitudes is a crossing of the antimeridian.
    crossing = np.ptp(points[..., 0], axis=1) > 180 if len(points) else beyond
    polygons = shapely.polygons(points)
    polygons[~crossing] = shapely.orient_polygons(polygons[~crossing])
    for index in np.flatnonzero(crossing):
        polygons[index] = antimeridian.fix_polygon(polygons[index], fix_winding=False)
    return polygons
