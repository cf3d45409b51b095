"""Every stored form of a picture becomes RGB and validity, or an error that says why."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import ImageHeader, open_raster, read_header
from tests.support.images import write_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(1, 255, (20, 30, 3), dtype=np.uint8)


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with open_raster(str(path)) as dataset:
        return read_rgb(dataset, 0, 0, dataset.width, dataset.height)


def header(path: Path) -> ImageHeader:
    with open_raster(str(path)) as dataset:
        return read_header(dataset)


def test_rgb_and_windows(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", RGB)
    pixels, valid = read(path)
    np.testing.assert_array_equal(pixels, RGB)
    assert valid is None
    with open_raster(str(path)) as dataset:
        np.testing.assert_array_equal(read_rgb(dataset, 3, 5, 7, 9)[0], RGB[5:14, 3:10])
        assert read_rgb(dataset, 0, 0, 30, 20, (7, 10))[0].shape == (7, 10, 3)


def test_grey_is_repeated(tmp_path: Path) -> None:
    pixels, valid = read(write_image(tmp_path / "a.png", RGB[..., 0]))
    np.testing.assert_array_equal(pixels, np.repeat(RGB[..., :1], 3, axis=2))
    assert valid is None


def test_palette_is_looked_up(tmp_path: Path) -> None:
    classes = RNG.integers(0, 3, (20, 30), dtype=np.uint8)
    colours = {0: (1, 2, 3, 255), 1: (40, 50, 60, 255), 2: (7, 8, 9, 255)}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=30, height=20, count=1, dtype="uint8") as dataset:
        dataset.write(classes, 1)
        dataset.write_colormap(1, colours)
    np.testing.assert_array_equal(read(path)[0], np.array([colours[i][:3] for i in range(3)], np.uint8)[classes])


def test_bands_are_found_by_their_colour(tmp_path: Path) -> None:
    path = tmp_path / "bgr.tif"
    with rasterio.open(path, "w", driver="GTiff", width=30, height=20, count=3, dtype="uint8") as dataset:
        dataset.write(np.moveaxis(RGB[..., ::-1], -1, 0))
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    np.testing.assert_array_equal(read(path)[0], RGB)


def test_alpha_nodata_and_internal_masks_make_pixels_invalid(tmp_path: Path) -> None:
    expected = RNG.random((20, 30)) > 0.3
    alpha = write_image(tmp_path / "alpha.png", np.dstack([RGB, expected * np.uint8(255)]))
    nodata = write_image(tmp_path / "nodata.tif", RGB * expected[..., None], nodata=0)
    masked = tmp_path / "masked.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(masked, "w", driver="GTiff", width=30, height=20, count=3, dtype="uint8") as dataset,
    ):
        dataset.write(np.moveaxis(RGB, -1, 0))
        dataset.write_mask(expected)
    for path in (alpha, nodata, masked):
        pixels, valid = read(path)
        assert valid is not None
        np.testing.assert_array_equal(valid, expected, err_msg=path.name)
        np.testing.assert_array_equal(pixels[expected], RGB[expected], err_msg=path.name)


def test_headers(tmp_path: Path) -> None:
    transform = from_origin(500_000, 4_000_000, 0.5, 0.5)
    path = write_image(tmp_path / "utm.tif", RGB, crs="EPSG:32633", transform=transform, blockysize=8)
    found = header(path)
    assert (found.width, found.height, found.bands, found.dtype, found.driver) == (30, 20, 3, "uint8", "GTiff")
    assert found.crs == "EPSG:32633"
    assert Affine(*(found.transform or ())) == transform
    assert found.random_access
    photograph = header(write_image(tmp_path / "photograph.jpg", RGB))
    assert (photograph.crs, photograph.transform, photograph.random_access) == (None, None, False)


@pytest.mark.real_data
def test_exif_of_a_drone_photograph(real_data: Path) -> None:
    found = header(real_data / "drone" / "DJI_0024.JPG")
    assert found.captured_at == datetime(2016, 6, 23, 16, 32, 43)
    assert found.latitude == pytest.approx(46 + 50 / 60 + 34.3126 / 3600)
    assert found.longitude == pytest.approx(-(91 + 59 / 60 + 37.308 / 3600))
    assert found.orientation == 1
