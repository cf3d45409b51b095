"""Masks: 0, or black, is normal, and everything else is anomalous."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.labels import ANOMALOUS, check_mask, read_mask
from ssvq.imagery.raster import open_raster
from tests.conftest import write_image

CLASSES = np.random.default_rng(0).integers(0, 4, (20, 30), dtype=np.uint8)


def anomalous(path: Path) -> NDArray[np.bool_]:
    with open_raster(str(path)) as mask:
        return read_mask(mask, None, Window(0, 0, mask.width, mask.height)) > 0


def test_class_ids_of_a_palette_count_and_not_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    # Class 0 is drawn white, and class 1 black, as drawing programs do.
    colours = {0: (255, 255, 255, 255), 1: (0, 0, 0, 255), 2: (255, 0, 0, 255), 3: (0, 0, 255, 255)}
    with rasterio.open(path, "w", driver="PNG", width=30, height=20, count=1, dtype="uint8") as mask:
        mask.write(CLASSES, 1)
        mask.write_colormap(1, colours)
    with open_raster(str(path)) as mask:
        assert mask.colorinterp == (ColorInterp.palette,)
    np.testing.assert_array_equal(anomalous(path), CLASSES > 0)


@pytest.mark.parametrize("value", [1, 128, 255])
def test_any_grey_but_black_is_anomalous(tmp_path: Path, value: int) -> None:
    mask = (CLASSES == 2) * np.uint8(value)
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", mask)), CLASSES == 2)


def test_one_bit_masks(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.minimum(CLASSES, 1), nbits=1)
    np.testing.assert_array_equal(anomalous(path), CLASSES > 0)


def test_class_ids_over_255(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", CLASSES.astype(np.uint16) * 256)
    np.testing.assert_array_equal(anomalous(path), CLASSES > 0)


@pytest.mark.parametrize("band", [0, 1, 2])
def test_any_colour_but_black_is_anomalous(tmp_path: Path, band: int) -> None:
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[..., band] = CLASSES
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", mask)), CLASSES > 0)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_is_ignored(tmp_path: Path, bands: int, alpha: int) -> None:
    mask = np.dstack([CLASSES] * bands + [np.full_like(CLASSES, alpha)])
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", mask)), CLASSES > 0)


def test_nodata_of_a_mask_does_not_hide_classes(tmp_path: Path) -> None:
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.tif", CLASSES, nodata=2)), CLASSES > 0)


def test_a_window_is_a_slice(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", CLASSES)
    with open_raster(str(path)) as mask:
        np.testing.assert_array_equal(read_mask(mask, None, Window(3, 5, 11, 7)), CLASSES[5:12, 3:14])


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with open_raster(str(write_image(tmp_path / "a.png", CLASSES))) as mask:
        check_mask(mask, 30, 20, None)
        with pytest.raises(ImageError, match="mask is 30x20 but the image is 20x30: draw it again") as error:
            check_mask(mask, 20, 30, None)
    assert error.value.stage == "mask"


def classes_of(path: Path, classes: tuple[int, ...] | None) -> NDArray[np.uint8]:
    with open_raster(str(path)) as mask:
        return read_mask(mask, classes, Window(0, 0, mask.width, mask.height))


def test_class_ids_are_kept_and_those_not_asked_for_are_normal(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", CLASSES)
    np.testing.assert_array_equal(classes_of(path, None), CLASSES)
    np.testing.assert_array_equal(classes_of(path, (2, 3)), np.where(CLASSES >= 2, CLASSES, 0))
    np.testing.assert_array_equal(classes_of(path, (7,)), 0)


def test_fractions_and_negative_numbers_are_anomalous_too(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, -3], [1, 300, 0]], np.float32)
    classes = classes_of(write_image(tmp_path / "a.tif", values), None)
    np.testing.assert_array_equal(classes, [[0, ANOMALOUS, ANOMALOUS], [1, 255, 0]])


def test_a_colour_mask_has_no_class_ids(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", np.dstack([CLASSES] * 3))
    assert set(np.unique(classes_of(path, None))) == {0, ANOMALOUS}
    with open_raster(str(path)) as mask, pytest.raises(ImageError, match="leave --anomalous-classes out"):
        check_mask(mask, 30, 20, (2,))


@pytest.mark.real_data
def test_masks_of_the_corrosion_photographs_hold_class_ids(real_data: Path) -> None:
    for path in sorted((real_data / "corrosion" / "masks").glob("*.png"))[:8]:
        with rasterio.open(path) as mask:
            expected = mask.read(1) > 0
            assert mask.read(1).max() <= 3
        np.testing.assert_array_equal(anomalous(path), expected, err_msg=path.name)


@pytest.mark.parametrize("bits", [1, 8])
def test_black_is_normal_where_zero_is_white_too(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.tif"
    size = {"width": 30, "height": 20, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISWHITE", nbits=bits, **size) as mask:
        mask.write(np.where(CLASSES == 2, 0, 2**bits - 1).astype(np.uint8), 1)
    np.testing.assert_array_equal(anomalous(path), CLASSES == 2)


def test_what_is_not_a_number_is_no_anomaly(tmp_path: Path) -> None:
    values = CLASSES.astype(np.float32)
    values[CLASSES == 1] = np.nan
    values[CLASSES == 2] = -0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = anomalous(write_image(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(found, CLASSES >= 2)
