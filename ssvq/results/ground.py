"""From pixels to positions on the ground, by the CRS and affine transform in the ledger row of an image.

Pixel coordinates are those of the stored raster: (0, 0) is the outer corner of the first pixel, and x runs along its
row. For an image with ground control points, the ledger has their least-squares affine.
"""

import antimeridian
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError
from rasterio.transform import Affine
from rasterio.warp import transform as transform_coordinates
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.footprint import footprints
from ssvq.scores.ledger_row import ImageRow

LONGITUDE_LATITUDE = "OGC:CRS84"
DECIMALS = 9  # of a degree: 0.1 mm, under half a pixel of the closest photograph
LONGEST_STRAIGHT = 128  # pixels; a straight side in the image's CRS is a curve in longitude and latitude


def is_placed(image: ImageRow) -> bool:
    """Whether an image has a georeference."""
    return bool(image.crs) and image.transform is not None


def affine_of(image: ImageRow, pitch_x: float = 1, pitch_y: float = 1) -> Affine:
    """From pixels of the image, or cells of `pitch_x` x `pitch_y` pixels, to its CRS.

    Raises ValueError for an image without a georeference.
    """
    if image.transform is None:
        raise ValueError(f"{image.image_uri} has no georeference")
    a, b, c, d, e, f = image.transform
    return Affine(a * pitch_x, b * pitch_y, c, d * pitch_x, e * pitch_y, f)


def to_lonlat(crs: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Longitude, from -180 to 180, and latitude (n, 2) of points of a CRS, NaN for points without any; None if GDAL
    cannot transform the CRS.
    """
    try:
        longitude, latitude = transform_coordinates(crs, LONGITUDE_LATITUDE, x, y)
    except (CRSError, CPLE_BaseError):  # GDAL's own errors: a local coordinate system, or a point outside its map
        return None
    points = np.column_stack([longitude, latitude]).astype(np.float64)
    points[~np.isfinite(points).all(axis=1)] = np.nan
    beyond = np.abs(points[:, 0]) > 180
    points[beyond, 0] = (points[beyond, 0] + 180) % 360 - 180
    return points


def footprint(image: ImageRow) -> BaseGeometry | None:
    """The polygon that an image covers, made like the footprints of its tiles."""
    outline: BaseGeometry | None = footprints(image, np.array([[0, 0, image.image_width, image.image_height]]))[0]
    return outline


def footprint_or_camera(image: ImageRow) -> BaseGeometry | None:
    """The footprint of an image, else the place of its camera as a point, else None."""
    outline = footprint(image)
    if outline is None and image.longitude is not None and image.latitude is not None:
        return shapely.Point(image.longitude, image.latitude)
    return outline


def on_the_ground(shape: BaseGeometry, image: ImageRow) -> BaseGeometry | None:
    """A polygon or multipolygon of an image's pixels in longitude and latitude, as RFC 7946 requires: outer rings
    anticlockwise, cut at the antimeridian. None if it has no place on the map.
    """
    affine = affine_of(image)
    # Rings must run anticlockwise on the ground, which separates inside from outside around a pole.
    shape = shapely.orient_polygons(shapely.segmentize(shape, LONGEST_STRAIGHT), exterior_cw=affine.determinant < 0)
    pixels = shapely.get_coordinates(shape)
    x = affine.a * pixels[:, 0] + affine.b * pixels[:, 1] + affine.c
    y = affine.d * pixels[:, 0] + affine.e * pixels[:, 1] + affine.f
    points = None if image.crs is None else to_lonlat(image.crs, x, y)
    if points is None or not np.isfinite(points).all():
        return None
    placed = shapely.set_coordinates(shape, points.round(DECIMALS))
    parts: list[BaseGeometry] = []
    for part in shapely.get_parts(placed):
        longitudes = shapely.get_coordinates(part.exterior)[:, 0]
        if np.ptp(longitudes) > 180:  # a region never spans half the globe: it crosses the antimeridian
            part = antimeridian.fix_polygon(part, fix_winding=False)
        parts.extend(shapely.get_parts(part))
    return shapely.orient_polygons(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
