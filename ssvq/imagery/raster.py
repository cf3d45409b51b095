"""Opens rasters through rasterio, and reads the header of an image.

The first bytes of a file choose the driver from a short list. So an image cannot make GDAL read other files or
addresses, as a VRT could, and sidecar files beside an image are ignored. Drivers that the user names may do both.

Pixel coordinates are those of the stored raster: EXIF orientation is recorded and not applied.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import rasterio
from rasterio._err import CPLE_BaseError  # GDAL's own, which escape rasterio where a damaged TIFF is looked into
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from ssvq.errors import ImageError, one_line
from ssvq.imagery import exif
from ssvq.imagery.camera import estimate_gsd
from ssvq.imagery.drivers import LONGEST_SIGNATURE, SIGNATURES, driver_of
from ssvq.imagery.opener import FileOpener
from ssvq.imagery.pixels import named_bands
from ssvq.io import storage

MAX_PIXELS = 20_000_000_000
"""A header with more pixels is damaged, or made to exhaust the planning of tiles; 141,000 x 141,000."""

MAX_SIDE = 10_000_000
"""In a long line of pixels every tile is a column of the grid, and all positions are in memory."""

MAX_BANDS = 1024
"""Hyperspectral cameras have some hundreds."""

ALL_OPTIONS = {
    "GDAL_PAM_ENABLED": "NO",
    # GDAL's short cut for whole PNGs reads a truncated one without an error, with undefined pixels.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}
GDAL_OPTIONS = ALL_OPTIONS | {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # No address has this suffix: whatever GDAL follows, it fetches nothing.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".nothing",
}
# The files of a named driver may be several, such as data and header.
NAMED_DRIVER_OPTIONS = ALL_OPTIONS | {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}
SEQUENTIAL = ("JPEG", "PNG", "WEBP", "GIF", "BIGGIF", "XPM")
"""Drivers of formats that can only be decoded from the start."""


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image, known without decoding a pixel.

    `transform`: six affine coefficients (a, b, c, d, e, f) from pixel to `crs` coordinates, or None for a photograph;
    with ground control points, their least-squares affine. `random_access`: whether a window can be read without
    decoding from the start. `file_block`: width and height in pixels of what is decoded at once. `pages`: of a TIFF, of
    which only the first is read. `named_bands`: numbers of the bands named red, green and blue, if any. `gsd_estimate`:
    metres on the object per pixel, from the camera's notes.
    """

    width: int
    height: int
    bands: int
    dtype: str
    driver: str
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    random_access: bool
    file_block: tuple[int, int]
    orientation: int | None
    captured_at: datetime | None
    latitude: float | None
    longitude: float | None
    pages: int = 1
    named_bands: tuple[int, ...] | None = None
    gsd_estimate: float | None = None


@contextmanager
def open_raster(uri: str, named: Sequence[str] = ()) -> Iterator[DatasetReader]:
    """Open an image, local or on S3, by a driver of `SIGNATURES`, else by one that a setting names.

    Raises ImageError (stage `read`) if it cannot be opened or read, also from within the block.
    """
    with open_with_file(uri, named) as (dataset, _):
        yield dataset


@contextmanager
def open_with_file(uri: str, named: Sequence[str] = ()) -> Iterator[tuple[DatasetReader, BinaryIO]]:
    """`open_raster`, with the image's file."""
    path = storage.filesystem(uri)[1]
    with read_errors(uri), warnings.catch_warnings(), storage.open_read(uri) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        drivers, gdal_options = _drivers(file.read(LONGEST_SIGNATURE), named)
        if storage.local_path(uri) is not None:  # which GDAL reads by itself
            with rasterio.Env(**gdal_options), _open(path, drivers) as dataset:
                _check_overviews(dataset)
                yield dataset, file
            return
        if drivers[0] in SEQUENTIAL:
            storage.advise_sequential(file)
        opener = FileOpener(file, path)
        with rasterio.Env(**gdal_options), opener.raising(), _open(path, drivers, opener=opener) as dataset:
            opener.watch(dataset)
            _check_overviews(dataset)
            yield dataset, file


@contextmanager
def read_errors(uri: str) -> Iterator[None]:
    """Turn errors of reading an image into ImageError (stage `read`)."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError, ValueError) as error:
        # rasterio keeps GDAL's own, more telling message as the cause.
        path = storage.filesystem(uri)[1]
        reason = str(error.__cause__ or error).replace(path, storage.base_name(uri))
        raise ImageError("read", f"cannot be read as an image: {one_line(reason)}") from error


def _open(path: str, drivers: Sequence[str], **options: Any) -> DatasetReader:
    """Open the file with the first of the drivers that accepts it; rasterio tries one at a time."""
    *others, last = drivers
    for driver in others:
        with suppress(RasterioIOError):
            return rasterio.open(path, driver=driver, **options)
    return rasterio.open(path, driver=last, **options)


def _drivers(start: bytes, named: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The drivers that may open a file that starts with these bytes, and options of GDAL for them."""
    driver = driver_of(start)
    if driver is not None:
        return [driver], GDAL_OPTIONS
    if not start:
        raise ImageError("read", "is empty")
    if not named:
        raise ImageError("read", f"is not an image of a known kind ({', '.join(SIGNATURES)})")
    return list(named), NAMED_DRIVER_OPTIONS


def _check_overviews(dataset: DatasetReader) -> None:
    """Raises ImageError for an image whose metadata name another file or address for its overviews: GDAL would open
    it when asked for a smaller picture.
    """
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise ImageError("read", "has its overviews in another file, which ssvq does not open: remove OVERVIEW_FILE")


def read_header(dataset: DatasetReader, file: BinaryIO | None = None) -> ImageHeader:
    """The header of an open image. `file`: its file; without it a position has the six digits that GDAL writes.

    Raises ImageError (stage `read`) for an absurd size.
    """
    _check_size(dataset)
    _ = dataset.mask_flag_enums  # GDAL reports a damaged mask once: ask here, before the tags are read
    crs, transform = dataset.crs, dataset.transform
    gcps, gcp_crs = dataset.gcps
    if gcps and gcp_crs:
        crs, transform = gcp_crs, from_gcps(gcps)
    block_height, block_width = dataset.block_shapes[0]
    noted = exif.read_exif(dataset)
    exact = exif.exact_place(file, dataset.driver) if file is not None and exif.tells_place(noted) else None
    latitude, longitude = exact or exif.place(noted)
    return ImageHeader(
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        driver=dataset.driver,
        crs=crs.to_string() if crs else None,
        transform=tuple(transform)[:6] if crs else None,
        random_access=dataset.driver not in SEQUENTIAL and (block_width, block_height) != dataset.shape[::-1],
        file_block=(block_width, block_height),
        orientation=exif.orientation(noted),
        captured_at=exif.captured_at(noted),
        latitude=latitude,
        longitude=longitude,
        named_bands=named_bands(dataset),
        pages=max(1, len(dataset.subdatasets)) if dataset.driver == "GTiff" else 1,
        gsd_estimate=estimate_gsd(noted, exif.read_xmp(dataset), dataset.width, dataset.height),
    )


def _check_size(dataset: DatasetReader) -> None:
    """Raises ImageError for a header that claims absurd dimensions; GDAL believes it until it reads."""
    width, height, bands = dataset.width, dataset.height, dataset.count
    if not width or not height or not bands:
        raise ImageError("read", f"has no pixels: {width}x{height} in {bands} bands")
    if width * height > MAX_PIXELS:
        raise ImageError("read", f"claims {width}x{height} pixels, more than the limit of {MAX_PIXELS:.0e}")
    if max(width, height) > MAX_SIDE:
        raise ImageError("read", f"claims {width}x{height} pixels, more than the limit of {MAX_SIDE:.0e} a side")
    if bands > MAX_BANDS:
        raise ImageError("read", f"claims {bands} bands, more than the limit of {MAX_BANDS}")
