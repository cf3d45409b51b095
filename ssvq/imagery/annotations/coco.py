"""COCO JSON: https://cocodataset.org/#format-data. Polygons, run lengths (compressed or not) and boxes."""

from collections import Counter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from shapely.geometry.base import BaseGeometry

from ssvq.imagery.annotations.content import AnnotatedImage, Annotations, FormatError, Shape, polygon, rectangle
from ssvq.imagery.runs import Runs

Id = int | str
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Image(_Part):
    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(_Part):
    id: Id
    name: str


class _RunLengths(_Part):
    size: tuple[int, int]
    counts: str | list[Annotated[int, Field(ge=0)]]


class _Annotation(_Part):
    image_id: Id
    category_id: Id
    id: Id | None = None
    bbox: list[Number] = []
    segmentation: _RunLengths | list[list[Number]] | list[Number] | None = None

    @property
    def name(self) -> str:
        return "an annotation" if self.id is None else f"annotation {self.id}"


class _File(_Part):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def read_coco(content: dict[str, Any]) -> Annotations:
    """Read a file from its JSON. Raises FormatError."""
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise FormatError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    found = Annotations("COCO", declared=[one.name for one in file.categories])
    _check_once([one.id for one in file.categories], "category")
    _check_once([one.id for one in file.images], "image")
    categories = {one.id: one.name for one in file.categories}
    images = {one.id: AnnotatedImage([one.file_name], one.width or None, one.height or None) for one in file.images}
    for annotation in file.annotations:
        if annotation.image_id not in images:
            raise FormatError(f"{annotation.name} is of image {annotation.image_id}, which is not listed")
        if annotation.category_id not in categories:
            raise FormatError(f"{annotation.name} has category {annotation.category_id}, which is not listed")
        image, category = images[annotation.image_id], categories[annotation.category_id]
        try:
            shapes = _shapes_of(annotation, image)
        except ValueError as error:
            image.problem = f"{annotation.name}: {error}"
            continue
        if not shapes:
            found.passed_over["annotation without a shape"] += 1
        image.shapes.extend(Shape(category, shape) for shape in shapes)
    found.images = list(images.values())
    return found


def _check_once(ids: list[Id], what: str) -> None:
    (most, times), *_ = [*Counter(ids).most_common(1), (None, 0)]
    if times > 1:
        raise FormatError(f"lists the {what} {most} {times} times")


def _shapes_of(annotation: _Annotation, image: AnnotatedImage) -> list[BaseGeometry | Runs]:
    """The polygons, the mask or the box of an annotation. Raises ValueError if they are damaged."""
    drawn = annotation.segmentation
    if isinstance(drawn, _RunLengths):
        if (image.height or drawn.size[0], image.width or drawn.size[1]) != drawn.size:
            raise ValueError(f"its mask has {drawn.size[1]}x{drawn.size[0]} pixels, unlike its image")
        return [_mask(drawn)]
    if drawn:
        rings = drawn if isinstance(drawn[0], list) else [drawn]
        return [_ring(numbers) for numbers in rings]
    if annotation.bbox:
        if len(annotation.bbox) != 4:
            raise ValueError(f"its box has {len(annotation.bbox)} numbers and not 4")
        return [rectangle(*annotation.bbox)]
    return []


def _ring(numbers: Any) -> BaseGeometry:
    if len(numbers) % 2:
        raise ValueError(f"its polygon has {len(numbers)} numbers, which is not a list of pairs")
    return polygon(list(zip(numbers[::2], numbers[1::2], strict=True)))


def _mask(drawn: _RunLengths) -> Runs:
    height, width = drawn.size
    if min(height, width) < 1:
        raise ValueError(f"its mask has {width}x{height} pixels")
    box = (0, 0, width, height)
    if isinstance(drawn.counts, list):
        return Runs.of(drawn.counts, box)
    runs = Runs(drawn.counts, *box)
    runs.check()
    return runs
