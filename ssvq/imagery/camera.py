"""Estimates the ground sampling distance of a photograph from its camera's notes.

The distance to the object is the first of: that of a DJI laser rangefinder; EXIF's subject distance; the height over
take-off of a DJI drone whose camera looks straight down. EXIF's altitude is above sea level, and says nothing about the
object.
"""

import math
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

DJI = "{http://www.dji.com/drone-dji/1.0/}"
LONGEST_XMP = 1_000_000  # characters; notes of a camera have a few thousand
STRAIGHT_DOWN = -80.0  # degrees of pitch, at which the height is 1.5 % under the distance

FULL_FRAME = 36.0  # mm, the long side of a sensor of 35 mm film, 24 mm high
FOUR_THIRDS = math.hypot(36, 24) * 4 / 5  # mm, the long side of a sensor of 4:3 with the same diagonal


def estimate_gsd(exif: dict[str, str], xmp: str, width: int, height: int) -> float | None:
    """Metres on the object per pixel; None unless lens and distance are known.

    exif: by GDAL's names. xmp: the XMP packet, or an empty text. width, height: of the photograph, in pixels.

    A focal length "in 35 mm film" keeps the diagonal of the sensor. A 3:2 photograph is taken to have a 3:2 sensor; all
    others, also 16:9, a 4:3 sensor of full width. If that is true, the error is at most some 5 %.
    """
    focal_length = _number(exif.get("EXIF_FocalLengthIn35mmFilm"))
    distance = _distance(exif, _notes(xmp)) if focal_length else None
    if focal_length is None or distance is None or min(width, height) < 1:
        return None
    long, short = max(width, height), min(width, height)
    sensor = FULL_FRAME if abs(long / short - 1.5) < 0.02 else FOUR_THIRDS
    return distance * sensor / (focal_length * long)


def _distance(exif: dict[str, str], notes: dict[str, str]) -> float | None:
    """Metres from the camera to the object."""
    for measured in (notes.get("LRFTargetDistance"), (exif.get("EXIF_SubjectDistance") or "").strip("()")):
        if (distance := _number(measured)) is not None:
            return distance
    try:
        looks_down = float(notes["GimbalPitchDegree"]) <= STRAIGHT_DOWN
    except (KeyError, ValueError):
        return None
    return _number(notes.get("RelativeAltitude")) if looks_down else None


def _notes(xmp: str) -> dict[str, str]:
    """DJI's entries of an XMP packet, written as attributes or elements; none if the packet is damaged."""
    start, end = xmp.find("<x:xmpmeta"), xmp.rfind(">")
    if start < 0 or len(xmp) > LONGEST_XMP:
        return {}
    try:
        root = ElementTree.fromstring(xmp[start : end + 1].split("<?xpacket end")[0])
    except (ParseError, DefusedXmlException, ValueError):
        return {}
    found = {}
    for element in root.iter():
        entries = [*element.attrib.items(), (element.tag, element.text or "")]
        found.update({str(name).removeprefix(DJI): text for name, text in entries if str(name).startswith(DJI)})
    return found


def _number(text: str | None) -> float | None:
    """A positive, finite number such as `+40.10`; None for anything else, also for 0, which means "unknown"."""
    try:
        number = float((text or "").strip())
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
