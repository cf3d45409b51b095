"""Reads EXIF: orientation and time as GDAL gives them, and the position from the raw numbers, since GDAL rounds them to
six digits (up to 50 m).

Unreadable entries count as unknown.
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO

from PIL.ExifTags import GPS, IFD
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from rasterio.io import DatasetReader

READERS = {"JPEG": JpegImageFile, "GTiff": TiffImageFile}  # by GDAL driver; GDAL finds no EXIF in other formats
Place = tuple[float | None, float | None]


def read_exif(dataset: DatasetReader) -> dict[str, str]:
    """EXIF of an open image by GDAL's names, such as `EXIF_GPSLatitude`; empty if there is none.

    GDAL gives it as metadata of a JPEG, and in a separate domain of a TIFF. A TIFF's own date is not used: it says when
    a mosaic was written, not when its photographs were taken.
    """
    return {**dataset.tags(), **dataset.tags(ns="EXIF")}


def read_xmp(dataset: DatasetReader) -> str:
    """The XMP packet of an open image; empty if there is none."""
    return str(dataset.tags(ns="xml:XMP").get("xml:XMP", ""))


def orientation(exif: dict[str, str]) -> int | None:
    """1 (upright) to 8."""
    match = re.fullmatch(r"\s*([1-8])\s*", exif.get("EXIF_Orientation", ""))
    return int(match[1]) if match else None


def captured_at(exif: dict[str, str]) -> datetime | None:
    """Local time of the camera; EXIF has no time zone."""
    return exif_time(exif.get("EXIF_DateTimeOriginal")) or exif_time(exif.get("EXIF_DateTime"))


def tells_place(exif: dict[str, str]) -> bool:
    """Whether there is a position to read."""
    return "EXIF_GPSLatitude" in exif and "EXIF_GPSLongitude" in exif


def exact_place(file: BinaryIO, driver: str) -> Place | None:
    """`place` from the raw numbers of a file; None if they cannot be read."""
    position = file.tell()
    try:
        file.seek(0)
        # Not by Image.open, which refuses large images: no pixel is read here.
        gps = READERS[driver](file).getexif().get_ifd(IFD.GPSInfo)
        north, east = (str(gps.get(name, "")) for name in (GPS.GPSLatitudeRef, GPS.GPSLongitudeRef))
        latitude, longitude = ([float(part) for part in gps[name]] for name in (GPS.GPSLatitude, GPS.GPSLongitude))
    except Exception:  # noqa: BLE001 - Pillow raises what it comes upon in a damaged header, and GDAL's text is left
        return None
    finally:
        file.seek(position)
    return _place(latitude, north, longitude, east)


def place(exif: dict[str, str]) -> Place:
    """Latitude and longitude in degrees, as GDAL rounds them.

    Unknown if one of them or its hemisphere is missing, and at 0, 0, which cameras write without a fix.
    """
    north, east = (exif.get(f"EXIF_GPS{name}Ref", "") for name in ("Latitude", "Longitude"))
    latitude, longitude = (_parts(exif.get(f"EXIF_GPS{name}")) for name in ("Latitude", "Longitude"))
    return _place(latitude, north, longitude, east)


def _place(latitude: Sequence[float], north: str, longitude: Sequence[float], east: str) -> Place:
    found = (_degrees(latitude, north, "NS", 90), _degrees(longitude, east, "EW", 180))
    return (None, None) if None in found or found == (0, 0) else found


def _degrees(parts: Sequence[float], reference: str, references: str, largest: float) -> float | None:
    """Degrees from degrees, minutes and seconds, and the letter of a hemisphere; None for an invalid angle."""
    letter = reference.strip("\0 ").upper()
    if len(parts) != 3 or letter not in tuple(references) or not all(0 <= part < math.inf for part in parts):
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if degrees > largest:
        return None
    return -degrees if letter == references[1] else degrees


def _parts(text: str | None) -> list[float]:
    """The numbers of `(46) (12) (3.5)`."""
    try:
        return [float(part) for part in re.findall(r"\(([^()]*)\)", text or "")]
    except ValueError:
        return []


def exif_time(text: str | None) -> datetime | None:
    """A time in EXIF's form `2016:06:23 16:32:43`; None for others, also for zeros and blanks, which EXIF allows."""
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
