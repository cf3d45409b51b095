"""Footprints against rasterio's own transforms."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform_bounds, transform_geom

from ssvq.imagery.footprint import footprints
from ssvq.imagery.grid import TileGrid, Tiling
from ssvq.imagery.raster import ImageHeader, open_raster, read_header


def header(crs: str | None, affine: Affine | None) -> ImageHeader:
    transform = tuple(affine)[:6] if affine is not None else None
    return ImageHeader(1000, 1000, 3, "uint8", "GTiff", crs, transform, True, (256, 256), None, None, None, None)


TILE = (100, 200, 512, 512)
WHOLE = (0, 0, 1000, 1000)


@pytest.mark.parametrize(
    "affine",
    [
        Affine.translation(500_000, 4_000_000) * Affine.scale(0.5, -0.5),
        Affine.translation(500_000, 4_000_000) * Affine.rotation(30) * Affine.scale(0.5, -0.5),
    ],
)
def test_corners_are_where_rasterio_says(affine: Affine) -> None:
    (outline,) = footprints(header("EPSG:32633", affine), np.array([TILE]))
    assert outline is not None
    corners = [affine * corner for corner in ((100, 200), (612, 200), (612, 712), (100, 712), (100, 200))]
    expected = shapely.geometry.shape(
        transform_geom("EPSG:32633", "OGC:CRS84", {"type": "Polygon", "coordinates": [corners]})
    )
    assert shapely.hausdorff_distance(outline, expected) < 1e-7
    assert outline.is_valid


def test_a_tile_over_the_antimeridian_is_split() -> None:
    affine = Affine.translation(179.7, 10) * Affine.scale(0.001, -0.001)
    (outline,) = footprints(header("EPSG:4326", affine), np.array([TILE]))
    assert isinstance(outline, shapely.MultiPolygon)
    assert outline.is_valid
    west, _, east, _ = outline.bounds
    assert (west, east) == (-180, 180)
    assert outline.area == pytest.approx(0.512**2, rel=1e-6)


@pytest.mark.parametrize(
    "affine",
    [
        Affine(0.001, 0, 179.7, 0, -0.001, 10),  # beyond 180 degrees east
        Affine(0.001, 0, -180.4, 0, -0.001, 10),  # beyond 180 degrees west
        Affine(0.001, 0, 179.7, 0, 0.001, 9),  # south up
    ],
)
def test_longitudes_stay_on_the_map(affine: Affine) -> None:
    (outline,) = footprints(header("EPSG:4326", affine), np.array([TILE]))
    assert outline is not None
    assert outline.is_valid
    assert np.abs(np.array(outline.bounds)[[0, 2]]).max() <= 180
    assert outline.area == pytest.approx(0.512**2, rel=1e-6)


@pytest.mark.parametrize("south_up", [False, True])
@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_tile_over_a_pole_holds_the_pole(crs: str, pole: int, south_up: bool) -> None:
    affine = Affine(1000, 0, -500_000, 0, 1000, -500_000) if south_up else Affine(1000, 0, -5e5, 0, -1000, 5e5)
    (outline,) = footprints(header(crs, affine), np.array([WHOLE]))
    assert outline is not None
    assert outline.is_valid
    assert outline.distance(shapely.Point(17, pole)) == 0
    assert outline.area < 360 * 7, "not the rest of the world"


def test_tiles_have_their_own_footprints() -> None:
    affine = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
    grid = TileGrid(1000, 1000, Tiling(tile_size=512, stride=512))
    (block,) = grid.blocks(128)
    outlines = footprints(header("EPSG:32633", affine), grid.places(block, np.arange(len(block)))[2:].T)
    (whole,) = footprints(header("EPSG:32633", affine), np.array([WHOLE]))
    assert len(outlines) == 4
    assert shapely.union_all(outlines).symmetric_difference(whole).area < 1e-6 * whole.area
    west, south, east, north = transform_bounds("EPSG:32633", "OGC:CRS84", 500_000, 3_999_500, 500_500, 4_000_000)
    assert whole.centroid.x == pytest.approx((west + east) / 2)
    assert whole.centroid.y == pytest.approx((south + north) / 2)
    assert whole.area == pytest.approx((east - west) * (north - south), rel=1e-2)


@pytest.mark.parametrize(
    ("crs", "affine"),
    [
        (None, None),  # a photograph
        ('LOCAL_CS["site",UNIT["metre",1]]', Affine(0.5, 0, 0, 0, -0.5, 0)),  # what photogrammetry calls local
        ("EPSG:32633", Affine(1e6, 0, 5e9, 0, -1e6, 5e9)),  # not on Earth
    ],
)
def test_what_has_no_place_has_no_footprint(crs: str | None, affine: Affine | None) -> None:
    assert footprints(header(crs, affine), np.array([TILE, TILE])).tolist() == [None, None]


@pytest.mark.real_data
def test_real_raster_over_the_antimeridian(real_data: Path) -> None:
    with open_raster(str(real_data / "geotiff" / "cog_dateline.tif")) as dataset:
        found = read_header(dataset)
    (outline,) = footprints(found, np.array([[0, 0, found.width, found.height]]))
    assert outline is not None
    assert outline.is_valid
    assert np.abs(np.array(outline.bounds)[[0, 2]]).max() <= 180
    assert outline.area < 10
