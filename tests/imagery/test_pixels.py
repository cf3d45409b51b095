"""Every stored kind of picture becomes RGB and validity as PIL and rasterio see it, or an error that says why."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageCms
from rasterio.enums import ColorInterp

from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from tests.support.images import write_image

RNG = np.random.default_rng(0)
SMOOTH = np.clip(
    np.linspace(0, 255, 64)[None, :, None] + np.linspace(-80, 80, 48)[:, None, None] + np.array([0, 40, -40]), 0, 255
).astype(np.uint8)
GREY = SMOOTH[..., 0]
PICTURE = Image.fromarray(SMOOTH)
NOISE = RNG.integers(0, 256, (48, 64, 5), dtype=np.uint8)


def read(
    path: Path, rule: PixelRule = AS_STORED, shape: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """All of an image; a warning, such as of a cast of NaN, is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_raster(str(path)) as dataset:
            return read_rgb(dataset, 0, 0, dataset.width, dataset.height, shape, rule)


def refusal(path: Path, rule: PixelRule = AS_STORED) -> str:
    with pytest.raises(ImageError) as error:
        read(path, rule)
    assert error.value.stage == "read"
    assert "\n" not in error.value.message
    return error.value.message


def three(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey] * 3)


def pil_rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def assert_near(pixels: np.ndarray, expected: np.ndarray, tolerance: int) -> None:
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def write_tif(path: Path, bands: np.ndarray, colours: list[ColorInterp] | None = None, **profile: Any) -> Path:
    """Bands (bands, height, width) as a TIFF."""
    size = {"width": bands.shape[2], "height": bands.shape[1], "count": len(bands)}
    with rasterio.open(path, "w", **{"driver": "GTiff", "dtype": bands.dtype} | size | profile) as dataset:
        if colours:
            dataset.colorinterp = colours  # before the pixels: afterwards it would be noted beside the file
        dataset.write(bands)
    return path


# Which bands


@pytest.mark.parametrize("bands", [(4, 3, 2), (1, 2, 3), (5, 5, 1), (2, 2, 2)])
def test_three_named_bands(tmp_path: Path, bands: tuple[int, ...]) -> None:
    path = write_image(tmp_path / "a.tif", NOISE)
    np.testing.assert_array_equal(read(path, PixelRule(bands=bands))[0], NOISE[..., [band - 1 for band in bands]])


def test_one_named_band_is_grey(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", NOISE)
    np.testing.assert_array_equal(read(path, PixelRule(bands=(4,)))[0], three(NOISE[..., 3]))


def test_named_bands_that_are_not_there_are_said(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", NOISE[..., :3])
    message = refusal(path, PixelRule(bands=(5, 3, 4)))
    assert message == "has no band 5 or 4 but 3 in all; the model takes the bands 5,3,4"


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        (["gray"], [0, 0, 0]),
        (["gray", "alpha"], [0, 0, 0]),
        (["gray", "undefined"], [0, 0, 0]),
        (["alpha", "gray"], [1, 1, 1]),
        (["undefined", "undefined", "undefined"], [0, 1, 2]),
        (["red", "green", "blue"], [0, 1, 2]),
        (["blue", "green", "red", "undefined"], [2, 1, 0]),
        (["red", "green", "blue", "alpha"], [0, 1, 2]),
        (["undefined", "alpha", "undefined", "undefined"], [0, 2, 3]),
        (["red", "green", "blue", "undefined", "alpha"], [0, 1, 2]),
        (["undefined"] * 5, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_unnamed_bands_are_found(tmp_path: Path, colours: list[str], expected: list[int], interleave: str) -> None:
    bands = np.moveaxis(NOISE[..., : len(colours)], -1, 0)
    found = [ColorInterp[colour] for colour in colours]
    path = write_tif(tmp_path / "a.tif", bands, found, interleave=interleave, photometric="MINISBLACK")
    pixels, valid = read(path)
    np.testing.assert_array_equal(pixels, NOISE[..., expected])
    if "alpha" in colours:
        assert valid is not None
        np.testing.assert_array_equal(valid, NOISE[..., colours.index("alpha")] > 0)
    else:
        assert valid is None


# Which values


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_values_of_every_type_are_brought_to_8_bit(tmp_path: Path, dtype: str) -> None:
    low, high = 20, 120
    path = write_image(tmp_path / "a.tif", NOISE[..., :3].astype(dtype))
    pixels, valid = read(path, PixelRule(value_range=(low, high)))
    expected = np.rint(np.clip((NOISE[..., :3].astype(float) - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(pixels, expected)
    assert valid is None if dtype.startswith(("u", "i")) else valid is not None and valid.all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32", "float64", "int8"])
def test_values_without_a_range_are_refused_with_what_to_do(tmp_path: Path, dtype: str) -> None:
    message = refusal(write_image(tmp_path / "a.tif", GREY.astype(dtype)))
    assert message.startswith(f"{dtype} pixels have no known range: train the model with --value-range LOW,HIGH, or ")


@pytest.mark.parametrize(
    ("dtype", "value_range"), [("uint8", (0, 10_000)), ("int16", (0, 40_000)), ("uint16", (-50, 50))]
)
def test_a_type_that_cannot_hold_the_range_is_refused(
    tmp_path: Path, dtype: str, value_range: tuple[float, float]
) -> None:
    message = refusal(write_image(tmp_path / "a.tif", GREY.astype(dtype)), PixelRule(value_range=value_range))
    low, high = value_range
    assert message.startswith(f"{dtype} pixels cannot hold the model's value range {low:g},{high:g}: ")


@pytest.mark.parametrize("rule", [AS_STORED, PixelRule(value_range=(0, 1))])
@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_values_are_refused(tmp_path: Path, dtype: str, rule: PixelRule) -> None:
    path = write_tif(tmp_path / "a.tif", GREY[None].astype(np.complex64), dtype=dtype)
    assert refusal(path, rule).startswith(f"{dtype} pixels are not a picture")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_files(tmp_path: Path, name: str) -> None:
    path = write_image(tmp_path / name, GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(path, PixelRule(value_range=(0, 65535)))[0], three(GREY))


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_values_of_few_bits_are_stretched(tmp_path: Path, bits: int) -> None:
    values = GREY >> (8 - bits)
    path = write_tif(tmp_path / "a.tif", values[None], nbits=bits, photometric="MINISBLACK")
    assert_near(read(path)[0], three(np.rint(values / (2**bits - 1) * 255)), 0)
    stored = read(path, PixelRule(value_range=(0, 1)))[0]  # a range is of stored values
    np.testing.assert_array_equal(stored, three(np.minimum(values, 1) * np.uint8(255)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "group4.tif"])
def test_two_values_are_black_and_white(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(GREY > 99).save(path, **({"compression": "group4"} if name == "group4.tif" else {}))
    np.testing.assert_array_equal(read(path)[0], three((GREY > 99) * np.uint8(255)))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_zero_is_white_where_the_file_says_so(tmp_path: Path, bits: int) -> None:
    values = GREY >> (8 - bits)
    path = write_tif(tmp_path / "a.tif", values[None], nbits=bits, photometric="MINISWHITE")
    pixels, _ = read(path)
    np.testing.assert_array_equal(pixels, pil_rgb(path))
    np.testing.assert_array_equal(pixels, three(255 - np.rint(values / (2**bits - 1) * 255).astype(np.uint8)))


# Palettes and inks


@pytest.mark.parametrize("colours", [2, 16, 256])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palettes(tmp_path: Path, colours: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    PICTURE.quantize(colours).save(path)
    pixels, valid = read(path)
    np.testing.assert_array_equal(pixels, pil_rgb(path))
    assert valid is None or valid.all()


@pytest.mark.parametrize("transparency", [3, bytes([255, 0, 9, 255, 0])])
def test_transparent_entries_of_a_palette_are_invalid(tmp_path: Path, transparency: int | bytes) -> None:
    path = tmp_path / "a.png"
    PICTURE.quantize(16).save(path, transparency=transparency)
    pixels, valid = read(path)
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(pixels, rgba[..., :3])
    assert valid is not None
    np.testing.assert_array_equal(valid, rgba[..., 3] > 0)
    assert 0 < valid.mean() < 1


def test_a_palette_of_16_bit_indices(tmp_path: Path) -> None:
    colours = {i: (i % 251, i // 251, 255 - i % 251, 255 if i % 7 else 0) for i in range(1000)}
    indices = RNG.integers(0, 1000, (48, 64), dtype=np.uint16)
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=64, height=48, count=1, dtype="uint16") as dataset:
        dataset.write(indices, 1)
        dataset.write_colormap(1, colours)
    pixels, valid = read(path)
    np.testing.assert_array_equal(pixels, np.array([colours[i][:3] for i in range(1000)])[indices])
    if valid is not None:  # a TIFF's palette has no alpha
        assert valid.all()


def test_a_palette_by_a_range(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PICTURE.quantize(16).save(path)
    halved = np.rint(np.minimum(pil_rgb(path), 128) / 128 * 255)
    np.testing.assert_array_equal(read(path, PixelRule(value_range=(0, 128)))[0], halved)
    assert "uint8 pixels cannot hold" in refusal(path, PixelRule(value_range=(0, 10_000)))
    assert "has no band 4 or 2" in refusal(path, PixelRule(bands=(4, 1, 2)))


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [("a.jpg", {"quality": 95}, 1), ("a.tif", {}, 1), ("jpeg.tif", {"compression": "jpeg"}, 1)],
)
def test_cmyk_of_pil(tmp_path: Path, name: str, options: dict[str, Any], tolerance: int) -> None:
    path = tmp_path / name
    PICTURE.convert("CMYK").save(path, **options)
    pixels, valid = read(path)
    assert_near(pixels, pil_rgb(path), tolerance)
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 6, "neither inverted nor in another order"
    assert valid is None or valid.all()


def test_ycck(tmp_path: Path) -> None:
    """What Photoshop writes: inverted inks, of which three are turned as YCbCr is. PIL writes no such file, but any
    four planes, and which colours they are stands in a marker and in the names of the components.
    """
    inks = PICTURE.convert("CMYK")
    turned = np.asarray(Image.merge("RGB", inks.split()[:3]).convert("YCbCr"))
    planes = np.dstack([255 - turned, np.asarray(inks)[..., 3]])  # PIL inverts all four
    path = tmp_path / "a.jpg"
    Image.fromarray(planes, "CMYK").save(path, quality=95)
    data = bytearray(path.read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    for component in range(4):
        data[frame + 3 * component] = data[scan + 2 * component] = component + 1
    path.write_bytes(data)
    pixels, _ = read(path)
    assert_near(pixels, pil_rgb(path), 1)
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 6


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_cmyk_of_gdal(tmp_path: Path, dtype: str, interleave: str) -> None:
    inks = np.dstack([255 - SMOOTH, np.minimum(GREY, 60)])
    stored = np.moveaxis(inks.astype(dtype) * (257 if dtype == "uint16" else 1), -1, 0)
    path = write_tif(tmp_path / "a.tif", stored, photometric="CMYK", interleave=interleave)
    pixels, valid = read(path, AS_STORED if dtype == "uint8" else PixelRule(value_range=(0, 65535)))
    assert_near(pixels, np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")), 1)
    assert valid is None or valid.all()
    if dtype == "uint16":
        named = PixelRule(bands=(4,), value_range=(0, 65535))
        np.testing.assert_array_equal(read(path, named)[0], three(inks[..., 3]))


def test_ycbcr_tiffs(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    PICTURE.convert("YCbCr").save(plain)
    assert_near(read(plain)[0], pil_rgb(plain), 1)
    bands = np.moveaxis(SMOOTH, -1, 0)
    jpeg = write_tif(tmp_path / "jpeg.tif", bands, compress="jpeg", photometric="YCBCR", interleave="pixel")
    assert_near(read(jpeg)[0], pil_rgb(jpeg), 8)  # decoders interpolate the colours each in its way
    assert np.abs(read(jpeg)[0].astype(int) - SMOOTH).mean() < 6


def test_a_cielab_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(PICTURE, *profiles, outputMode="LAB")
    assert lab is not None
    lab.save(path)
    assert np.abs(read(path)[0].astype(int) - SMOOTH).mean() < 12


# Validity


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jp2", "a.tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_in_every_format(tmp_path: Path, name: str, mode: str) -> None:
    if (name, mode) == ("a.webp", "LA"):
        pytest.skip("WebP has no grey")
    alpha = ((NOISE[..., 0] > 99) * NOISE[..., 1]).astype(np.uint8)
    colour = SMOOTH if mode == "RGBA" else GREY[..., None]
    lossless = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(np.dstack([colour, alpha]), mode).save(tmp_path / name, **lossless)
    pixels, valid = read(tmp_path / name)
    np.testing.assert_array_equal(pixels, SMOOTH if mode == "RGBA" else three(GREY))
    assert valid is not None
    np.testing.assert_array_equal(valid, alpha > 0)


def test_a_transparent_colour(tmp_path: Path) -> None:
    few = NOISE[..., :3] // 86 * 86  # so that the colour occurs, and parts of it do too
    colour = few[3, 4].tolist()
    Image.fromarray(few).save(tmp_path / "a.png", transparency=tuple(colour))
    _, valid = read(tmp_path / "a.png")
    assert valid is not None
    np.testing.assert_array_equal(valid, (few != colour).any(axis=2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_nodata_is_where_all_used_bands_hold_it(tmp_path: Path, dtype: str, count: int) -> None:
    bands = (np.moveaxis(NOISE[..., :count], -1, 0) % 3).astype(dtype)
    path = write_tif(tmp_path / "a.tif", bands, nodata=1, photometric="MINISBLACK")
    rule = AS_STORED if dtype == "uint8" else PixelRule(value_range=(0, 2))
    _, valid = read(path, rule)
    assert valid is not None
    np.testing.assert_array_equal(valid, (bands[:3] != 1).any(axis=0))
    if count != 4:
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(valid, dataset.dataset_mask() > 0)
    _, of_one = read(path, PixelRule(bands=(count,), value_range=rule.value_range))
    assert of_one is not None
    np.testing.assert_array_equal(of_one, bands[count - 1] != 1)


def test_nodata_of_each_band_for_itself(tmp_path: Path) -> None:
    few = np.moveaxis(NOISE[..., :3] % 3, -1, 0)
    source = write_tif(tmp_path / "a.tif", few)
    entries = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{nodata}<SimpleSource><SourceFilename>{source}'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band, nodata in enumerate(["<NoDataValue>0</NoDataValue>", "<NoDataValue>2</NoDataValue>", ""], start=1)
    )
    (tmp_path / "a.vrt").write_text(f'<VRTDataset rasterXSize="64" rasterYSize="48">{entries}</VRTDataset>')
    with open_raster(str(tmp_path / "a.vrt"), ["VRT"]) as dataset:
        assert dataset.nodatavals == (0, 2, None)
        assert read_rgb(dataset, 0, 0, 64, 48)[1] is None, "the third band is valid everywhere"
        _, valid = read_rgb(dataset, 0, 0, 64, 48, rule=PixelRule(bands=(1, 2, 2)))
    assert valid is not None
    np.testing.assert_array_equal(valid, (few[0] != 0) | (few[1] != 2))


@pytest.mark.parametrize("nodata", [None, float("nan"), -9999])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_a_number_is_invalid_and_black(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    bands = np.moveaxis(NOISE[..., :3], -1, 0).astype(dtype)
    bands[0, 3, 4] = np.nan
    bands[1, 5, 6] = np.inf
    bands[:, 7, 8] = -np.inf
    bands[:, 9, 9] = np.nan if nodata is None else nodata
    pixels, valid = read(write_tif(tmp_path / "a.tif", bands, nodata=nodata), PixelRule(value_range=(0, 255)))
    assert valid is not None
    assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(3, 4), (5, 6), (7, 8), (9, 9)]
    assert pixels[3, 4, 0] == pixels[5, 6, 1] == 0
    assert not pixels[7, 8].any()
    assert not pixels[9, 9].any()
    np.testing.assert_array_equal(pixels[valid], NOISE[..., :3][valid])


def test_16_bit_alpha(tmp_path: Path) -> None:
    alpha = np.array([0, 1, 200, 65535], np.uint16)[NOISE[..., 3] % 4]
    bands = np.moveaxis(np.dstack([SMOOTH.astype(np.uint16) * 257, alpha]), -1, 0)
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    pixels, valid = read(write_tif(tmp_path / "a.tif", bands, colours), PixelRule(value_range=(0, 65535)))
    np.testing.assert_array_equal(pixels, SMOOTH)
    assert valid is not None
    np.testing.assert_array_equal(valid, alpha > 0)


def test_whole_images_are_resized_in_their_own_values(tmp_path: Path) -> None:
    blocks = RNG.integers(0, 10_000, (12, 16), dtype=np.uint16)
    path = write_image(tmp_path / "a.tif", np.kron(blocks, np.ones((4, 4), np.uint16)))
    pixels, _ = read(path, PixelRule(value_range=(0, 10_000)), (12, 16))
    np.testing.assert_array_equal(pixels, three(np.rint(blocks / 10_000 * 255).astype(np.uint8)))


# Real rasters


@pytest.mark.real_data
@pytest.mark.parametrize("rule", [AS_STORED, PixelRule(value_range=(0, 200)), PixelRule(bands=(1,))])
def test_every_odd_geotiff_reads_or_says_why(real_data: Path, rule: PixelRule) -> None:
    reasons: dict[str, str] = {}
    read_well = set()
    for path in sorted((real_data / "geotiff").glob("*.tif")):
        try:
            pixels, valid = read(path, rule)
        except ImageError as error:
            reasons[path.name] = error.message
            continue
        read_well.add(path.name)
        with rasterio.open(path) as dataset:
            assert pixels.shape == (*dataset.shape, 3)
            expected = dataset.dataset_mask() > 0
            if rule.bands is None:
                values = dataset.read([1, 2, 3] if dataset.count >= 3 else [1])
                expected &= np.isfinite(values).all(axis=0)
            else:
                expected = dataset.read_masks(1) > 0
        np.testing.assert_array_equal(np.ones(expected.shape, bool) if valid is None else valid, expected, path.name)
    assert reasons.pop("corrupt.tif").startswith("cannot be read as an image: ")
    if rule.value_range is not None:
        assert not reasons
        return
    assert len(read_well) == 12
    assert all(re.match(r"(uint16|int16|float32|float64) pixels have no known range", why) for why in reasons.values())
