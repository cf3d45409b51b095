"""What cameras note in EXIF, as GDAL renders it: orientation, time and place. What cannot be read is not known."""

import re
from datetime import datetime

from rasterio.io import DatasetReader


def read_exif(dataset: DatasetReader) -> dict[str, str]:
    """EXIF of an open image by GDAL's names, such as `EXIF_GPSLatitude`; empty where GDAL finds none.

    GDAL gives it as metadata of a JPEG, and in a domain of its own of a TIFF. A TIFF's own date is not taken: it says
    when a mosaic was written and not when its photographs were taken.
    """
    return {**dataset.tags(), **dataset.tags(ns="EXIF")}


def orientation(exif: dict[str, str]) -> int | None:
    """1 (upright) to 8."""
    match = re.fullmatch(r"\s*([1-8])\s*", exif.get("EXIF_Orientation", ""))
    return int(match[1]) if match else None


def captured_at(exif: dict[str, str]) -> datetime | None:
    """Local time of the camera; EXIF has no time zone."""
    return exif_time(exif.get("EXIF_DateTimeOriginal")) or exif_time(exif.get("EXIF_DateTime"))


def place(exif: dict[str, str]) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees."""
    latitude = exif_angle(exif.get("EXIF_GPSLatitude"), exif.get("EXIF_GPSLatitudeRef"), 90)
    return latitude, exif_angle(exif.get("EXIF_GPSLongitude"), exif.get("EXIF_GPSLongitudeRef"), 180)


def exif_time(text: str | None) -> datetime | None:
    """A time of EXIF's form `2016:06:23 16:32:43`; None for others, also zeros and blanks, which EXIF allows."""
    try:
        return datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def exif_angle(text: str | None, reference: str | None, largest: float) -> float | None:
    """Decimal degrees of GDAL's rendering of EXIF's degrees, minutes, seconds: `(46) (12) (3.5)`; None for what is
    no such angle or over `largest`.
    """
    parts = re.fullmatch(r"\s*\((\d+(?:\.\d+)?)\)\s*\((\d+(?:\.\d+)?)\)\s*\((\d+(?:\.\d+)?)\)\s*", text or "")
    if parts is None:
        return None
    degrees = float(parts[1]) + float(parts[2]) / 60 + float(parts[3]) / 3600
    if degrees > largest:
        return None
    return -degrees if (reference or "").strip().upper() in ("S", "W") else degrees
