"""Footprints against rasterio's own transforms."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from ssvq.imagery.footprint import footprints
from ssvq.imagery.grid import Tile
from ssvq.imagery.raster import ImageHeader, open_raster, read_header


def header(crs: str | None, affine: Affine | None) -> ImageHeader:
    transform = tuple(affine)[:6] if affine is not None else None
    return ImageHeader(1000, 1000, 3, "uint8", "GTiff", crs, transform, True, None, None, None, None)


TILE = Tile(0, 0, 100, 200, 512, 512)


@pytest.mark.parametrize(
    "affine",
    [
        Affine.translation(500_000, 4_000_000) * Affine.scale(0.5, -0.5),
        Affine.translation(500_000, 4_000_000) * Affine.rotation(30) * Affine.scale(0.5, -0.5),
    ],
)
def test_corners_are_where_rasterio_says(affine: Affine) -> None:
    (outline,) = footprints(header("EPSG:32633", affine), [TILE])
    assert outline is not None
    corners = [affine * corner for corner in ((100, 200), (612, 200), (612, 712), (100, 712), (100, 200))]
    expected = shapely.geometry.shape(
        transform_geom("EPSG:32633", "OGC:CRS84", {"type": "Polygon", "coordinates": [corners]})
    )
    assert shapely.hausdorff_distance(outline, expected) < 1e-7
    assert outline.is_valid


def test_a_tile_over_the_antimeridian_is_split() -> None:
    affine = Affine.translation(179.7, 10) * Affine.scale(0.001, -0.001)
    (outline,) = footprints(header("EPSG:4326", affine), [TILE])
    assert isinstance(outline, shapely.MultiPolygon)
    assert outline.is_valid
    west, _, east, _ = outline.bounds
    assert (west, east) == (-180, 180)
    assert outline.area == pytest.approx(0.512**2, rel=1e-6)


def test_photographs_have_none() -> None:
    assert footprints(header(None, None), [TILE, TILE]) == [None, None]


@pytest.mark.real_data
def test_real_raster_over_the_antimeridian(real_data: Path) -> None:
    with open_raster(str(real_data / "geotiff" / "cog_dateline.tif")) as dataset:
        found = read_header(dataset)
    (outline,) = footprints(found, [Tile(0, 0, 0, 0, found.width, found.height)])
    assert outline is not None
    assert outline.is_valid
    assert np.abs(np.array(outline.bounds)[[0, 2]]).max() <= 180
    assert outline.area < 10
