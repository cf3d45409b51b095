"""CVAT XML 1.1 for images: https://docs.cvat.ai/docs/dataset_management/formats/format-xml/. Polygons, boxes, ellipses,
masks and tags of images.
"""

import math
from collections.abc import Callable
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from shapely.geometry.base import BaseGeometry

from ssvq.errors import reason_of
from ssvq.imagery.annotations.content import (
    AnnotatedImage,
    Annotations,
    FormatError,
    Shape,
    ellipse,
    polygon,
    rectangle,
    turned,
)
from ssvq.imagery.runs import Runs


def read_cvat(data: bytes) -> Annotations:
    """Read a file. Raises FormatError, also for XML with a document type, since its entities can be bombs."""
    try:
        root = fromstring(data, forbid_dtd=True)
    except ParseError as error:
        raise FormatError(f"is no XML: {reason_of(error)}") from None
    except DefusedXmlException:
        raise FormatError("has a document type or entities, which CVAT does not write: remove them") from None
    if root.tag != "annotations":
        raise FormatError(f"has the root <{root.tag}> and not <annotations>: export it as CVAT for images 1.1")
    if root.find("track") is not None:
        raise FormatError("is of a video: export it as CVAT for images 1.1")
    found = Annotations("CVAT", declared=[one.text or "" for one in root.iterfind("meta//label/name")])
    for element in root.iter("image"):
        found.images.append(_read_image(element, found))
    return found


def _read_image(element: Element, found: Annotations) -> AnnotatedImage:
    name = element.get("name")
    if not name:
        raise FormatError(f"names no file for the image {element.get('id', '?')}")
    image = AnnotatedImage([name], _side(element, "width"), _side(element, "height"))
    for drawn in element:
        label = drawn.get("label", "")
        if drawn.tag == "tag":
            image.labels.append(label)
        elif drawn.tag in SHAPES:
            try:
                image.shapes.append(Shape(label, SHAPES[drawn.tag](drawn)))
            except ValueError as error:
                image.problem = f"a {drawn.tag} of it cannot be read: {reason_of(error)}"
        else:
            found.passed_over[str(drawn.tag)] += 1
    return image


def _side(element: Element, name: str) -> int | None:
    text = element.get(name, "")
    return int(text) if text.isdecimal() else None


def _number(element: Element, name: str, default: str | None = None) -> float:
    text = element.get(name, default)
    if text is None:
        raise ValueError(f"it has no {name}")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {text}")
    return value


def _whole(element: Element, name: str) -> int:
    return int(_number(element, name))


def _polygon(element: Element) -> BaseGeometry:
    pairs = [pair.split(",") for pair in element.get("points", "").split(";") if pair.strip()]
    points = [(float(x), float(y)) for x, y in pairs]
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("a point of it is not finite")
    return polygon(points)


def _box(element: Element) -> BaseGeometry:
    left, top, right, bottom = (_number(element, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    centre = ((left + right) / 2, (top + bottom) / 2)
    return turned(rectangle(left, top, right - left, bottom - top), _number(element, "rotation", "0"), centre)


def _ellipse(element: Element) -> BaseGeometry:
    x, y, radius_x, radius_y = (_number(element, name) for name in ("cx", "cy", "rx", "ry"))
    return turned(ellipse(x, y, radius_x, radius_y), _number(element, "rotation", "0"), (x, y))


def _mask(element: Element) -> Runs:
    x, y, width, height = (_whole(element, name) for name in ("left", "top", "width", "height"))
    lengths = [int(length) for length in element.get("rle", "").split(",") if length.strip()]
    return Runs.of(lengths, (x, y, width, height), by_rows=True)


SHAPES: dict[str, Callable[[Element], BaseGeometry | Runs]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
