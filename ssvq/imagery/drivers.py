"""GDAL drivers that may open a file: a short list, chosen by the first bytes, and those that a setting names.

GDAL has over a hundred drivers, and some, such as VRT, read other files or addresses from inside a file. They are used
only if the user names them.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

import rasterio
from rasterio.drivers import raster_driver_extensions

SIGNATURES = {
    "GTiff": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",  # classic and BigTIFF, either byte order
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "JP2OpenJPEG": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "BMP": rb"BM.{4}\0\0\0\0",
    "GIF": rb"GIF8[79]a",
    "PNM": rb"P[56]\s",
}
LONGEST_SIGNATURE = 16
SUFFIXES = (
    *(".tif", ".tiff", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".jp2", ".j2k"),
    *(".bmp", ".gif", ".ppm", ".pgm"),
)
OTHER_PICTURES = {
    ".img": "--drivers HFA",
    ".ntf": "--drivers NITF",
    ".heic": "save as JPEG or TIFF",
    ".heif": "save as JPEG or TIFF",
    ".avif": "save as JPEG or TIFF",
    ".dng": "save as TIFF",
    ".nef": "save as TIFF",
    ".cr2": "save as TIFF",
    ".arw": "save as TIFF",
}
"""Suffixes of pictures that are read only with a named driver, and what to do."""


def driver_of(start: bytes) -> str | None:
    """The driver in SIGNATURES of a file that starts with these bytes, or None."""
    for driver, signature in SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            return driver
    return None


def known_driver(name: str) -> str:
    """The name of a driver of this rasterio, in GDAL's spelling. Raises ValueError, with a suggestion, if there is
    none.
    """
    with rasterio.Env() as env:
        known = {driver.lower(): driver for driver in env.drivers()}
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f" (similar: {', '.join(known[driver] for driver in near)})" if near else ""
        raise ValueError(f"{name!r} is not a driver of this GDAL{hint}; `rio env --formats` lists them")
    return known[name.lower()]


def suffixes(drivers: Iterable[str]) -> tuple[str, ...]:
    """The suffixes of image files, in lower case with their dot: SUFFIXES, and those of named drivers.

    A driver without known suffixes, such as ENVI, adds none.
    """
    of_named = [f".{suffix}" for suffix, driver in raster_driver_extensions().items() if driver in set(drivers)]
    return (*SUFFIXES, *(suffix for suffix in of_named if suffix not in SUFFIXES))
