"""Windows of a raster as 8-bit RGB with validity, by the model's pixel rule.

Stored values are taken as they are stored: a scale and offset in the file's metadata is not applied. GDAL itself
turns CMYK and YCbCr JPEGs and 8-bit CMYK, YCbCr and CIELAB TIFFs into RGB; what it leaves as inks is turned here.
"""

import re

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule

INKS = (ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black)
WORDS_BESIDE = {"band", "b", "channel", "ch", "nm", "reflectance", "srgb"}  # words of a band's name that mean no colour
CHUNK = 2**20  # values mapped at a time: float64 copies of a whole window would be large


def read_rgb(
    dataset: DatasetReader,
    x: int,
    y: int,
    width: int,
    height: int,
    out_shape: tuple[int, int] | None = None,
    rule: PixelRule = AS_STORED,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """A window as RGB, uint8 (height, width, 3), and which of its pixels are valid, bool (height, width); both
    resized to `out_shape` (rows, columns) when it is given: averaged where that is smaller, else interpolated.

    Bands: those that the rule names; else those whose descriptions are red, green and blue; else a palette is looked
    up, inks are mixed, grey is repeated, and red, green and blue are found by their colour interpretation, or are the
    first three bands that are not alpha.
    Values: with a range, low..high to 0..255, clipped, rounded half to even; without, 8 bit as they are, and values
    of fewer bits stretched to 0..255. Grey that is stored with 0 as white is inverted.

    A pixel is invalid where alpha or an internal mask says so, where all the bands that are used hold nodata (as in
    rasterio's dataset_mask: a colour without red is no hole where nodata is 0), where its palette entry is
    transparent, and where a used band is NaN or infinite. The validity is None when no pixel can be invalid.

    Raises ImageError (stage `read`) for a raster that the rule cannot bring to 8-bit RGB.
    """
    bands = _bands(dataset, rule)
    has_palette = rule.bands is None and dataset.colorinterp[0] == ColorInterp.palette
    dtype = "uint8" if has_palette else _dtype(dataset, bands)
    _check_values(dtype, rule)
    window, shape = Window(x, y, width, height), out_shape or (height, width)
    valid = _mask(dataset, bands, window, shape)
    if has_palette:
        colours, opaque = _palette(dataset)
        indices: NDArray[np.integer] = dataset.read(1, window=window, out_shape=shape)
        return to_8_bit(colours, rule)[0][indices], _both(valid, None if opaque.all() else opaque[indices])
    smaller = shape[0] <= height and shape[1] <= width
    resampling = Resampling.average if smaller else Resampling.bilinear
    # By pixel, as tiles are: GDAL copies rows of a JPEG file as they are, and nothing is turned afterwards.
    values = np.moveaxis(np.empty((*shape, len(bands)), dtype), -1, 0)
    dataset.read(bands, out=values, window=window, resampling=resampling)
    pixels, finite = to_8_bit(values, rule, stored_bits(dataset, bands[0], 8))
    valid = _both(valid, None if finite is None else np.logical_and.reduce(finite))
    if zero_is_white(dataset):
        pixels = 255 - pixels
    if len(bands) == 4:
        pixels = _mix_inks(pixels)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(pixels, (3, *shape)), 0, -1)), valid


def _both(valid: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Where both leave a pixel valid; None means everywhere."""
    if valid is None or other is None:
        return other if valid is None else valid
    return np.logical_and(valid, other)


def _bands(dataset: DatasetReader, rule: PixelRule) -> list[int]:
    """The bands to read: three, or one for grey, or the four inks."""
    if rule.bands is not None:
        lacking = [str(band) for band in rule.bands if band > dataset.count]
        if lacking:
            raise ImageError(
                "read",
                f"has no band {' or '.join(lacking)} but {dataset.count} in all; the model takes the bands "
                f"{','.join(map(str, rule.bands))}",
            )
        return list(rule.bands)
    by_name = named_bands(dataset)
    if by_name is not None:
        return list(by_name)
    by_colour = {colour: band for band, colour in enumerate(dataset.colorinterp, start=1)}
    for colours in ((ColorInterp.red, ColorInterp.green, ColorInterp.blue), INKS):
        if all(colour in by_colour for colour in colours):
            return [by_colour[colour] for colour in colours]
    bands = picture_bands(dataset)
    return bands[:3] if len(bands) >= 3 else bands[:1]


def named_bands(dataset: DatasetReader) -> tuple[int, ...] | None:
    """The bands whose descriptions name them red, green and blue, as multispectral cameras write: `Red`, `Blue (475
    nm)`, `band 3: green`.

    None unless each occurs once; `Red edge` is another band.
    """
    words = [set(re.findall("[a-z]+", (text or "").lower())) - WORDS_BESIDE for text in dataset.descriptions]
    found = [[band for band, of_band in enumerate(words, 1) if of_band == {name}] for name in ("red", "green", "blue")]
    return tuple(band for (band,) in found) if all(len(bands) == 1 for bands in found) else None


def _dtype(dataset: DatasetReader, bands: list[int]) -> str:
    dtypes = sorted({dataset.dtypes[band - 1] for band in bands})
    if len(dtypes) > 1:
        raise ImageError("read", f"has bands of unlike pixels ({', '.join(dtypes)}): convert them to one type")
    return str(dtypes[0])


def _check_values(dtype: str, rule: PixelRule) -> None:
    """Raises ImageError for values that the rule cannot bring to 8 bit."""
    if dtype.startswith("complex"):
        raise ImageError("read", f"{dtype} pixels are not a picture: convert the image to its amplitude")
    if rule.value_range is None:
        if dtype != "uint8":
            raise ImageError(
                "read",
                f"{dtype} pixels have no known range: train the model with --value-range LOW,HIGH, or convert the "
                "image to 8 bit (gdal_translate -ot Byte -scale LOW HIGH)",
            )
        return
    low, high = rule.value_range
    if np.issubdtype(dtype, np.integer) and not np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max:
        raise ImageError(
            "read",
            f"{dtype} pixels cannot hold the model's value range {low:g},{high:g}: convert the image to values of the "
            "kind that the model was trained on, or train one on images of this kind",
        )


def picture_bands(dataset: DatasetReader) -> list[int]:
    """The bands that are not alpha; or the first band if there is no other."""
    return [band for band, colour in enumerate(dataset.colorinterp, start=1) if colour != ColorInterp.alpha] or [1]


def zero_is_white(dataset: DatasetReader) -> bool:
    """Whether grey is stored with 0 as white."""
    return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES")


def stored_bits(dataset: DatasetReader, band: int, of_type: int) -> int:
    """Bits of a band's values, if the file says that they have fewer than their type."""
    return int(dataset.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", of_type))


def _mask(dataset: DatasetReader, bands: list[int], window: Window, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Where alpha, internal mask or nodata leave a pixel valid, bool of `shape`; None for everywhere."""
    used = sorted(set(bands))
    flags = {band: dataset.mask_flag_enums[band - 1] for band in used}
    for band in used:
        if MaskFlags.per_dataset in flags[band]:
            return dataset.read_masks(band, window=window, out_shape=shape) > 0
    if ColorInterp.alpha in dataset.colorinterp:  # which GDAL takes for a mask only as the last of two or four bands
        alpha = dataset.colorinterp.index(ColorInterp.alpha) + 1
        return dataset.read(alpha, window=window, out_shape=shape) > 0
    if any(MaskFlags.all_valid in of_band for of_band in flags.values()):
        return None
    return np.any(dataset.read_masks(used, window=window, out_shape=(len(used), *shape)) > 0, axis=0)


def _palette(dataset: DatasetReader) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Colours of the palette of band 1, uint8 (n, 3), and which of them are opaque, bool (n,).

    An index beyond the palette is black and invalid.
    """
    number = np.iinfo(dataset.dtypes[0]).max + 1
    colours, opaque = np.zeros((number, 3), np.uint8), np.zeros(number, bool)
    for index, colour in dataset.colormap(1).items():
        colours[index], opaque[index] = colour[:3], colour[3] > 0
    return colours, opaque


def to_8_bit(
    values: NDArray[np.generic], rule: PixelRule, bits: int = 8
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Values of any real type as uint8 of the same shape by the range of the rule, and which are finite, bool of the
    same shape; None for types that are always finite.

    Values that are not finite become 0.
    """
    if rule.value_range is None:
        pixels = values.astype(np.uint8, copy=False)
        return (pixels if bits >= 8 else _scaled(np.arange(256), 0, 2**bits - 1)[pixels]), None
    low, high = rule.value_range
    if values.dtype.kind in "iu" and values.itemsize <= 2:
        unsigned = np.dtype(f"u{values.itemsize}")
        every = np.arange(2 ** (8 * values.itemsize), dtype=np.uint64).astype(unsigned).view(values.dtype)
        return _scaled(every, low, high)[values.view(unsigned)], None
    pixels, finite = np.empty(values.shape, np.uint8), np.ones(values.shape, bool)
    flat_values, flat_pixels, flat_finite = values.reshape(-1), pixels.reshape(-1), finite.reshape(-1)
    for start in range(0, values.size, CHUNK):
        chunk = np.s_[start : start + CHUNK]
        some = flat_values[chunk].astype(np.float64)
        is_finite = np.isfinite(some)
        flat_finite[chunk] = is_finite
        flat_pixels[chunk] = np.where(is_finite, _scaled(np.nan_to_num(some), low, high), 0)
    return pixels, finite if values.dtype.kind == "f" else None


def _scaled(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    share = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    return np.rint(share * 255).astype(np.uint8)


def _mix_inks(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red, green and blue, uint8 (3, ...), of cyan, magenta, yellow and black, uint8 (4, ...); 255 is full ink."""
    light = 255 - inks
    product = light[:3].astype(np.uint16) * light[3]
    return ((product + 127) // 255).astype(np.uint8)
