"""Reading rasters through rasterio: the header of an image, and windows of it as 8-bit RGB with validity.

The driver is chosen here, by the file's first bytes, from a short list: an image cannot make GDAL read other
files or addresses (as a VRT could), and sidecar files beside an image are not looked for. Pixel coordinates are
those of the stored raster: EXIF orientation is noted and not applied.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # GDAL's own, which escape rasterio where a damaged TIFF is looked into
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps
from rasterio.windows import Window

from ssvq import storage
from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule

SIGNATURES = {
    "GTiff": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",  # classic and BigTIFF, either byte order
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "JP2OpenJPEG": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
}
SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".webp", ".jp2")
GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # GDAL's short cut for whole PNGs reads one that is cut short without an error, its rest undefined pixels.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image says; no pixel is decoded to know it.

    `transform` holds the six affine coefficients (a, b, c, d, e, f) from pixel to `crs` coordinates, or is
    None for a photograph; for an image with ground control points it is their least-squares affine.
    `random_access` says whether a window can be read without decoding the image from its start.
    """

    width: int
    height: int
    bands: int
    dtype: str
    driver: str
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    random_access: bool
    orientation: int | None
    captured_at: datetime | None
    latitude: float | None
    longitude: float | None


@contextmanager
def open_raster(uri: str) -> Iterator[DatasetReader]:
    """Open an image, local or on S3, by one of the drivers of `SIGNATURES`.

    Raises ImageError (stage `read`) when it cannot be opened or read, also from within the block.
    """
    filesystem, path = storage.filesystem(uri)
    opener = {"opener": filesystem} if storage.is_remote(uri) else {}
    with read_errors(uri), rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver=_driver(uri), **opener) as dataset:
            yield dataset


@contextmanager
def read_errors(uri: str) -> Iterator[None]:
    """Turn what reading an image raises into ImageError (stage `read`)."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError, ValueError) as error:
        # rasterio keeps GDAL's own, more telling message as the cause.
        path = storage.filesystem(uri)[1]
        reason = str(error.__cause__ or error).replace(path, storage.base_name(uri))
        raise ImageError("read", f"cannot be read as an image: {reason}") from error


def _driver(uri: str) -> str:
    with storage.open_read(uri) as file:
        start = file.read(16)
    for driver, signature in SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            return driver
    raise ImageError("read", f"is not an image of a known kind ({', '.join(SIGNATURES)})" if start else "is empty")


def read_header(dataset: DatasetReader) -> ImageHeader:
    """The header of an open image."""
    crs, transform = dataset.crs, dataset.transform
    gcps, gcp_crs = dataset.gcps
    if gcps and gcp_crs:
        crs, transform = gcp_crs, from_gcps(gcps)
    tags = dataset.tags()
    return ImageHeader(
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        driver=dataset.driver,
        crs=crs.to_string() if crs else None,
        transform=tuple(transform)[:6] if crs else None,
        random_access=dataset.driver in ("GTiff", "JP2OpenJPEG"),
        orientation=int(tags["EXIF_Orientation"]) if tags.get("EXIF_Orientation", "").isdigit() else None,
        captured_at=_exif_time(tags.get("EXIF_DateTimeOriginal") or tags.get("EXIF_DateTime")),
        latitude=_exif_angle(tags.get("EXIF_GPSLatitude"), tags.get("EXIF_GPSLatitudeRef")),
        longitude=_exif_angle(tags.get("EXIF_GPSLongitude"), tags.get("EXIF_GPSLongitudeRef")),
    )


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

    Grey is repeated, a palette is looked up, red, green and blue are found by their colour interpretation and
    are the first three bands otherwise; alpha, internal masks and nodata make pixels invalid. The validity is
    None when the file declares every pixel valid.

    Raises ImageError (stage `read`) for pixels that are not 8 bit: how their range maps to 8 bit is not known.
    """
    _check(dataset, rule)
    window = Window(x, y, width, height)
    shape = out_shape or (height, width)
    valid = None
    if any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums):
        valid = dataset.dataset_mask(window=window, out_shape=shape) > 0
    if dataset.colorinterp[0] == ColorInterp.palette:
        colours = np.zeros((256, 3), np.uint8)
        for index, colour in dataset.colormap(1).items():
            colours[index] = colour[:3]
        return colours[dataset.read(1, window=window, out_shape=shape)], valid
    smaller = shape[0] <= height and shape[1] <= width
    resampling = Resampling.average if smaller else Resampling.bilinear
    pixels = dataset.read(_rgb_bands(dataset), window=window, out_shape=(3, *shape), resampling=resampling)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), valid


def _check(dataset: DatasetReader, rule: PixelRule) -> None:
    """Raises ImageError (stage `read`) for a raster that the rule cannot bring to 8-bit RGB."""
    if any(dtype != "uint8" for dtype in dataset.dtypes):
        raise ImageError(
            "read",
            f"{dataset.dtypes[0]} pixels have no known range: train the model with --value-range LOW,HIGH, or "
            "convert the image to 8 bit (gdal_translate -ot Byte -scale LOW HIGH)",
        )


def _rgb_bands(dataset: DatasetReader) -> list[int]:
    by_colour = {colour: band for band, colour in enumerate(dataset.colorinterp, start=1)}
    named = [by_colour.get(colour) for colour in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    if all(band is not None for band in named):
        return [band for band in named if band is not None]
    return [1, 2, 3] if dataset.count >= 3 else [1, 1, 1]


def _exif_time(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")  # EXIF has no time zone
    except ValueError:
        return None


def _exif_angle(text: str | None, reference: str | None) -> float | None:
    """Decimal degrees of GDAL's rendering of EXIF's degrees, minutes, seconds: `(46) (12) (3.5)`."""
    parts = [float(part) for part in re.findall(r"\(([\d.]+)\)", text or "")]
    if len(parts) != 3:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -degrees if reference in ("S", "W") else degrees
