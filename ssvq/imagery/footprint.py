"""Footprints of tiles on the ground, in longitude and latitude (OGC:CRS84)."""

from collections.abc import Iterable

import antimeridian
import numpy as np
import shapely
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_coordinates
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.grid import Tile
from ssvq.imagery.raster import ImageHeader

POINTS_PER_SIDE = 4  # a straight side of a tile is a curve in longitude and latitude


def footprints(header: ImageHeader, tiles: Iterable[Tile]) -> list[BaseGeometry | None]:
    """The polygon that each tile covers, split where it crosses the antimeridian; None for each tile of an
    image without georeference, or with coordinates that do not map to longitude and latitude.
    """
    tiles = list(tiles)
    if header.crs is None or header.transform is None or not tiles:
        return [None] * len(tiles)
    a, b, c, d, e, f = header.transform
    corners = np.array(
        [
            [(t.x, t.y), (t.x + t.width, t.y), (t.x + t.width, t.y + t.height), (t.x, t.y + t.height), (t.x, t.y)]
            for t in tiles
        ],
        dtype=float,
    )
    along = np.linspace(0, 1, POINTS_PER_SIDE, endpoint=False)[None, None, :, None]
    ring = (corners[:, :-1, None] * (1 - along) + corners[:, 1:, None] * along).reshape(len(tiles), -1, 2)
    if a * e < b * d:
        ring = ring[:, ::-1]  # anticlockwise on the ground, which tells the inside from the outside around a pole
    col, row = ring[..., 0].ravel(), ring[..., 1].ravel()
    try:
        longitude, latitude = transform_coordinates(
            header.crs, "OGC:CRS84", a * col + b * row + c, d * col + e * row + f
        )
    except (CRSError, CPLE_BaseError):  # GDAL's own for a local system of coordinates, or a place outside of its map
        return [None] * len(tiles)
    points = np.stack([longitude, latitude], axis=-1).reshape(ring.shape)
    return [_polygon(outline) for outline in points]


def _polygon(outline: np.ndarray) -> BaseGeometry | None:
    if not np.isfinite(outline).all():
        return None
    if np.abs(outline[:, 0]).max() > 180:
        outline = np.column_stack([(outline[:, 0] + 180) % 360 - 180, outline[:, 1]])
    if np.ptp(outline[:, 0]) <= 180:
        return shapely.orient_polygons(shapely.Polygon(outline))
    # A tile never spans half the globe, so a jump of longitudes is a crossing of the antimeridian.
    return antimeridian.fix_polygon(shapely.Polygon(outline), fix_winding=False)
