"""Label Studio JSON: https://labelstud.io/guide/task_format.

Polygons, rectangles, ellipses, brush masks, and choices for whole images.

Coordinates are percent of the picture.
"""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.annotations.brush import decode_brush
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
from ssvq.imagery.drivers import SUFFIXES
from ssvq.imagery.runs import Runs

UPLOADS = "/data/upload/"  # and the number of a project: an upload keeps no folder of its own
CATEGORY_KEYS = ("polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels", "labels")
"""Keys that hold a category in a value; the type of a result has the same words, or its tag alone."""
SHAPE_KEYS = {"points": "polygon", "radiusX": "ellipse", "rle": "brush mask", "height": "rectangle"}
"""Keys of a value that identify a shape."""


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    value: dict[str, Any] = {}
    id: str | None = None
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float = 0


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    result: list[_Result] = []
    was_cancelled: bool = False
    ground_truth: bool = False
    updated_at: str = ""


class _Task(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data: dict[str, Any]
    annotations: list[_Annotation] = Field([])


def read_label_studio(content: list[Any]) -> Annotations:
    """Read a file from its JSON: for each task the ground-truth annotation, else the latest.

    Predictions and skipped annotations are not read. Raises FormatError.
    """
    found = Annotations("Label Studio")
    for number, entry in enumerate(content):
        try:
            task = _Task.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"] == ("data",):
                raise FormatError("has tasks without `data`: export it as JSON, and not as JSON-MIN") from None
            raise FormatError(f"task {number}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        given = [one for one in task.annotations if not one.was_cancelled]
        given.sort(key=lambda one: (one.ground_truth, one.updated_at))
        names = image_names(task.data)
        if not names:
            found.passed_over["task without an image"] += 1
        elif not given:
            found.unlabelled.append(names)
        else:
            found.passed_over["annotation that another of the same task replaces"] += len(given) - 1
            found.images.append(_read_image(names, given[-1].result, found))
    if content and not found.images and any(entry.get("predictions") for entry in content):
        raise FormatError("holds predictions and no annotation: submit them in Label Studio first")
    found.passed_over = +found.passed_over
    return found


def image_names(data: dict[str, Any]) -> list[str]:
    """Names in a task's data that may mean its image: paths, those with a picture's suffix first."""
    paths = [_path_of(text) for text in data.values() if isinstance(text, str)]
    return sorted(paths, key=lambda path: not path.lower().endswith(SUFFIXES))


def _path_of(address: str) -> str:
    parts = urlsplit(address)
    served = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/photo.jpg
    if parts.path.startswith(UPLOADS):
        return unquote(parts.path).rsplit("/", 1)[-1]
    return served[0] if served else unquote(parts.path) if parts.scheme or parts.path.startswith("/data/") else address


def _read_image(names: list[str], results: list[_Result], found: Annotations) -> AnnotatedImage:
    sizes = [(one.original_width, one.original_height) for one in results if one.original_width and one.original_height]
    image = AnnotatedImage(names, *(sizes[0] if sizes else (None, None)))
    regions: dict[str, list[_Result]] = {}
    for number, result in enumerate(results):
        regions.setdefault(result.id or f"without an id {number}", []).append(result)
    for parts in regions.values():  # a shape and its category may be two results with one id
        value = {name: inner for part in parts for name, inner in part.value.items()}
        key = next((key for key in SHAPE_KEYS if key in value), None)
        if key is not None:
            _add_region(image, SHAPE_KEYS[key], value, parts[0], found)
        elif "choices" in value:
            image.labels.extend(map(str, value["choices"]))
        else:
            found.passed_over[parts[0].type] += 1
    return image


def _add_region(image: AnnotatedImage, kind: str, value: dict[str, Any], result: _Result, found: Annotations) -> None:
    names = [str(name) for key in CATEGORY_KEYS for name in value.get(key) or []]
    if not names:
        found.passed_over[f"{kind} without a label"] += 1
        return
    if kind == "polygon" and value.get("closed") is False:
        found.passed_over["polygon that is not closed"] += 1
        return
    if result.image_rotation % 360:
        image.problem = "was turned by hand in Label Studio: turn it back there, and label it upright"
        return
    if image.width is None or image.height is None:
        image.problem = "has no original_width and original_height in the annotations, of which places are percents"
        return
    try:
        geometry = _geometry(kind, value, image.width, image.height)
    except (TypeError, ValueError, KeyError) as error:
        image.problem = f"a {kind} of it cannot be read: {error}"
        return
    image.shapes.extend(Shape(name, geometry) for name in dict.fromkeys(names))


def _geometry(kind: str, value: dict[str, Any], width: int, height: int) -> BaseGeometry | Runs:
    """The geometry in pixels. Raises TypeError, ValueError and KeyError for invalid values."""
    if kind == "brush mask":
        return Runs.of(decode_brush(value["rle"], width, height), (0, 0, width, height), by_rows=True)
    scale_x, scale_y = width / 100, height / 100
    if kind == "polygon":
        return polygon([(float(x) * scale_x, float(y) * scale_y) for x, y in value["points"]])
    x, y = float(value["x"]) * scale_x, float(value["y"]) * scale_y
    if kind == "ellipse":
        shape = ellipse(x, y, float(value["radiusX"]) * scale_x, float(value["radiusY"]) * scale_y)
    else:
        shape = rectangle(x, y, float(value["width"]) * scale_x, float(value["height"]) * scale_y)
    return turned(shape, float(value.get("rotation") or 0), (x, y))
