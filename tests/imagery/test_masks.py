"""Masks mean what people draw: black is normal, paint is anomalous, and what is transparent is no paint."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.masks import ANOMALOUS, MaskReader, tell_full_masks
from ssvq.imagery.raster import open_raster
from tests.support.images import write_image

CLASSES = np.random.default_rng(0).integers(0, 4, (20, 30), dtype=np.uint8)


def anomalous(path: Path) -> NDArray[np.bool_]:
    return classes_of(path) > 0


def classes_of(path: Path, classes: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    with open_raster(str(path)) as mask:
        size = (mask.width, mask.height)
        return MaskReader(mask, size, classes).read(Window(0, 0, *size))


def write_palette(path: Path, ids: NDArray[np.uint8], colours: dict[int, tuple[int, int, int, int]]) -> Path:
    height, width = ids.shape
    with rasterio.open(path, "w", driver="PNG", width=width, height=height, count=1, dtype="uint8") as mask:
        mask.write(ids, 1)
        mask.write_colormap(1, colours)
    with open_raster(str(path)) as mask:
        assert mask.colorinterp == (ColorInterp.palette,)
    return path


WHITE, BLACK, RED, BLUE = (255, 255, 255, 255), (0, 0, 0, 255), (255, 0, 0, 255), (0, 0, 255, 255)


@pytest.mark.parametrize(
    ("colours", "normal"),
    [
        ({0: BLACK, 1: WHITE, 2: RED, 3: BLUE}, [0]),
        ({0: WHITE, 1: BLACK, 2: RED, 3: BLUE}, [1]),  # a palette orders its colours as it likes
        ({0: WHITE, 1: RED, 2: BLUE, 3: (1, 2, 3, 255)}, [0]),  # without black, the first
        ({0: BLACK, 1: RED, 2: (255, 255, 255, 0), 3: BLUE}, [0, 2]),
    ],
)
def test_a_palette_is_read_by_its_colours(
    tmp_path: Path, colours: dict[int, tuple[int, int, int, int]], normal: list[int]
) -> None:
    path = write_palette(tmp_path / "a.png", CLASSES, colours)
    np.testing.assert_array_equal(anomalous(path), ~np.isin(CLASSES, normal))


def test_black_that_only_fills_a_palette_up_says_nothing(tmp_path: Path) -> None:
    path = write_palette(tmp_path / "a.png", CLASSES, {0: WHITE, 1: RED, 2: BLUE, 3: (9, 9, 9, 255), 4: BLACK})
    np.testing.assert_array_equal(anomalous(path), CLASSES > 0)


def test_class_ids_that_are_asked_for_count_and_not_their_colours(tmp_path: Path) -> None:
    path = write_palette(tmp_path / "a.png", CLASSES, {0: WHITE, 1: BLACK, 2: RED, 3: BLUE})
    np.testing.assert_array_equal(classes_of(path, (1, 3)), np.where(np.isin(CLASSES, (1, 3)), CLASSES, 0))


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
def test_what_is_transparent_is_no_paint(tmp_path: Path, bands: int) -> None:
    alpha = np.where(np.arange(30) < 12, 0, 255).astype(np.uint8) * np.ones_like(CLASSES)
    mask = np.dstack([CLASSES] * bands + [alpha])
    expected = (CLASSES > 0) & (alpha > 0)
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", mask)), expected)


SHAPE = np.zeros((64, 96), bool)
SHAPE[10:40, 20:70] = True


def test_a_jpeg_mask_is_cut_at_half(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", (SHAPE * 255).astype(np.uint8), quality=60)
    assert (anomalous(path) != SHAPE).mean() < 0.01
    assert len(np.unique(anomalous(path))) == 2


def test_noise_near_black_and_white_is_cut_at_half_whatever_the_format(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30, SHAPE.shape)
    noisy = np.where(SHAPE, 255 - noise, noise).astype(np.uint8)
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", noisy)), SHAPE)


def test_levels_of_video(tmp_path: Path) -> None:
    video = np.where(SHAPE, 235, 16).astype(np.uint8)
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.png", video)), SHAPE)


def test_shades_between_black_and_white_are_refused(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (20, 1))
    with pytest.raises(ImageError, match=r"mask has 256 shades of grey, 68% of it neither black nor white") as error:
        anomalous(write_image(tmp_path / "a.png", ramp))
    assert error.value.stage == "mask"


@pytest.mark.parametrize("orientation", range(1, 9))
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_mask_over_the_upright_picture_is_turned_to_the_stored_pixels(
    orientation: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against Pillow, which turns a stored picture upright."""
    height, width = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9))
    stored = np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width)
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture))
    path = write_image(tmp_path_factory.mktemp("masks") / "a.png", upright)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    window = Window(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    with open_raster(str(path)) as mask:
        found = MaskReader(mask, (width, height), tuple(range(1, 256)), orientation).read(window)
    np.testing.assert_array_equal(found, stored[y : y + window.height, x : x + window.width])


def test_a_mask_that_fits_the_stored_pixels_alone_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", CLASSES)  # 30 wide, as its image is stored; upright it is 20
    with open_raster(str(path)) as mask:
        np.testing.assert_array_equal(MaskReader(mask, (30, 20), None, 6).read(Window(0, 0, 30, 20)), CLASSES)


def test_nodata_of_a_mask_does_not_hide_classes(tmp_path: Path) -> None:
    np.testing.assert_array_equal(anomalous(write_image(tmp_path / "a.tif", CLASSES, nodata=2)), CLASSES > 0)


def test_a_window_is_a_slice(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", CLASSES)
    with open_raster(str(path)) as mask:
        np.testing.assert_array_equal(MaskReader(mask, (30, 20)).read(Window(3, 5, 11, 7)), CLASSES[5:12, 3:14])


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with open_raster(str(write_image(tmp_path / "a.png", CLASSES))) as mask:
        MaskReader(mask, (30, 20))
        with pytest.raises(ImageError, match="mask is 30x20 but the image is 20x30: draw it again") as error:
            MaskReader(mask, (20, 30))
    assert error.value.stage == "mask"


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
    with open_raster(str(path)) as mask, pytest.raises(ImageError, match="omit --anomalous-classes"):
        MaskReader(mask, (30, 20), (2,))


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


def test_a_mask_of_nearly_all_of_its_image_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    images = ["a", "a", "b", "b", "c", "d"]
    tell_full_masks(images, np.array([1.0, 0.6, 1.0, 0.5, 0.8, 1.0]), ["a", "b", "c"])
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "warning: the mask of c calls 80% of it anomalous: is it inverted?",
        "warning: the mask of a calls 80% of it anomalous: is it inverted?",
    ]  # b has three quarters, and d has a label and no mask


PAPER_COLOURS = [(0, 0, 0), (255, 255, 255), (200, 30, 30), (30, 200, 30)]  # of normal and of three kinds of paint


def save_drawing(path: Path, drawing: NDArray[np.uint8], mode: str, shuffle: int) -> Path:
    """A drawing with values 0 (normal) to 3, as a program may save it."""
    painted = drawing > 0
    colours = np.array(PAPER_COLOURS, np.uint8)[drawing]
    match mode:
        case "palette":  # in any order, with an entry that no pixel has
            order = np.random.default_rng(shuffle).permutation(5)
            picture = Image.fromarray(order[drawing].astype(np.uint8), "P")
            palette = np.zeros((5, 3), np.uint8)
            palette[order] = [*PAPER_COLOURS, (9, 99, 9)]
            picture.putpalette(palette.tobytes())
        case "pillow's palette":
            picture = Image.fromarray(colours).quantize(8)
        case "ids":
            picture = Image.fromarray(drawing)
        case "black and white":
            picture = Image.fromarray(painted.astype(np.uint8) * 255)
        case "one bit":
            picture = Image.fromarray(painted)
        case "colour":
            picture = Image.fromarray(colours)
        case "white on nothing":  # the paint is opaque, all else is white and clear
            alpha = painted.astype(np.uint8) * 255
            picture = Image.fromarray(np.dstack([np.full_like(colours, 255), alpha]))
        case "grey and alpha":
            picture = Image.fromarray(np.dstack([painted * np.uint8(255), np.full_like(drawing, 255)]), "LA")
        case "video":
            picture = Image.fromarray(np.where(painted, 235, 16).astype(np.uint8))
    options = {"lossless": True} if path.suffix == ".webp" else {}
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *((mode, ".png") for mode in ("palette", "pillow's palette", "ids", "black and white", "one bit", "colour")),
        *((mode, ".png") for mode in ("white on nothing", "grey and alpha", "video")),
        *((mode, ".tif") for mode in ("palette", "ids", "black and white", "one bit", "colour", "white on nothing")),
        *((mode, ".bmp") for mode in ("palette", "black and white", "one bit", "colour")),
        *((mode, ".gif") for mode in ("palette", "black and white")),
        *((mode, ".webp") for mode in ("colour", "white on nothing")),
    ],
)
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 99), shuffle=st.integers(0, 99))
@settings(max_examples=15)
def test_a_drawing_is_read_as_drawn_however_it_was_saved(
    mode: str,
    suffix: str,
    shape: tuple[int, int],
    seed: int,
    shuffle: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    drawing = np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)
    drawing.flat[0] = 0  # something is normal
    path = save_drawing(tmp_path_factory.mktemp("drawings") / f"a{suffix}", drawing, mode, shuffle)
    np.testing.assert_array_equal(anomalous(path), drawing > 0)
