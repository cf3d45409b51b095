"""Settings for reading images: limits, the place of labelled images, and the meaning of their labels."""

import re
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ssvq.imagery.meaning import Meaning
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.settings import Command, Location, Section

PART_PIXELS = 128 * 512**2  # 96 MiB of RGB


class ReadLimits(Section):
    """Limits of reading. An image that exceeds the time or memory fails; a large one is read in parts."""

    seconds: float = Field(120, gt=0)
    """Seconds to decode one part of an image, without the time that S3 takes."""

    memory: int = Field(2048, ge=256)
    """Memory limit of a decoding process, in MiB."""

    part_pixels: int = Field(PART_PIXELS, gt=0)
    """Pixels of the tiles in one part (default: 128 tiles of 512x512); larger images are read and scored in parts."""


class ImageReading(Command):
    """A command that reads many images."""

    drivers: list[str] | None = None
    """GDAL drivers for other formats than TIFF, JPEG, PNG, WebP, JPEG 2000, BMP, GIF and PNM, such as HFA,NITF."""

    @field_validator("drivers")
    @classmethod
    def _drivers_are_known(cls, drivers: list[str] | None) -> list[str] | None:
        """GDAL is loaded only if a driver is named."""
        if not drivers:
            return None
        from ssvq.imagery.drivers import known_driver

        return [known_driver(name) for name in drivers]


def _numbers(values: Any) -> Any:
    """Numbers as such, since a command line has text alone."""
    if not isinstance(values, list):
        return values
    return [int(value) if isinstance(value, str) and value.strip().isdecimal() else value for value in values]


def _is_mask_value(value: int | str) -> bool:
    return isinstance(value, int) and 0 < value < 256


class LabelledImages(ImageReading):
    """Labelled images, from one of three layouts: --images with --masks or --annotations, --mvtec, or --manifest."""

    layouts: ClassVar[tuple[str, ...]] = ("images", "mvtec", "manifest")
    """The settings that can say where the images are; exactly one must be given."""

    images: Location | None = None
    """Folder or s3:// prefix of the images."""

    masks: Location | None = None
    """Folder or s3:// prefix of the masks, named like the images: 0 is normal, other values anomalous (default: all
    images are normal)."""

    annotations: Location | None = None
    """Instead of --masks: a file of a label tool, in COCO JSON, CVAT XML 1.1 or Label Studio JSON."""

    mvtec: Location | None = None
    """Folder or s3:// prefix of one category in the MVTec AD layout: train/good, test/DEFECT, ground_truth/DEFECT."""

    manifest: Location | None = None
    """CSV or Parquet file with a column image, and any of mask, label, split, group; paths are relative to the file."""

    anomalous_classes: Annotated[list[int | str] | None, BeforeValidator(_numbers)] = None
    """Mask values that are anomalous, such as 2,3 (default: all but 0; of a palette, all colours but black), or
    categories of --annotations, such as rust,crack (default: all but words for normal and background)."""

    normal_labels: list[str] | None = None
    """Labels that mean normal, besides good, normal, ok, pass, 0, false and no; every other label is a defect."""

    group_pattern: str | None = None
    """Regular expression over image paths; images with the same match (or first group) stay in one split."""

    normal_fraction: float | None = Field(None, ge=0, lt=1)
    """Drop tiles whose anomalous share lies between this and --anomalous-fraction (default: drop none)."""

    @model_validator(mode="after")
    def _one_layout(self) -> "LabelledImages":
        given = [name for name in self.layouts if getattr(self, name) is not None]
        if not given:
            first, *others = self.layouts
            raise ValueError(f"--{first} is missing ({', '.join(f'or --{name}' for name in others)})")
        if len(given) > 1:
            raise ValueError(f"--{given[0]} and --{given[1]} name two layouts: give only one")
        if self.masks is not None and self.images is None:
            raise ValueError("--masks needs --images")
        if self.annotations is not None and (self.images is None or self.masks is not None):
            raise ValueError("--annotations needs --images and replaces --masks")
        if self.annotations is None and not all(_is_mask_value(value) for value in self.anomalous_classes or ()):
            of_manifest = self.manifest is not None and all(isinstance(v, str) for v in self.anomalous_classes or ())
            if not of_manifest:
                raise ValueError("--anomalous-classes are mask values from 1 to 255, or categories of --annotations")
        return self

    @model_validator(mode="after")
    def _pattern_compiles(self) -> "LabelledImages":
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise ValueError(f"--group-pattern {self.group_pattern!r} is not a regular expression: {error}") from None
        return self

    @property
    def meaning(self) -> Meaning:
        """What labels mean."""
        classes = None if self.anomalous_classes is None else tuple(self.anomalous_classes)
        return Meaning(classes, tuple(self.normal_labels or ()))

    @property
    def source(self) -> str:
        """The setting and address of the images, for messages."""
        name = next(name for name in self.layouts if getattr(self, name) is not None)
        return f"--{name} {getattr(self, name)}"


class StoredPixels(LabelledImages):
    """Labelled images, and how their stored values become a model's input."""

    bands: list[int] | None = None
    """Bands for red, green and blue, such as 4,3,2, or one band for grey (default: by the colours of the image)."""

    value_range: tuple[float, float] | None = None
    """Stored values that map to 0 and 255, such as 0,10000; write =-50,50 below 0 (default: 8-bit values unchanged)."""

    @field_validator("bands", "value_range")
    @classmethod
    def _is_rule(cls, value: Any, info: ValidationInfo) -> Any:
        """Checked by the rule itself, but here, so that the message names the setting."""
        try:
            PixelRule.model_validate({info.field_name: value})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return value

    @property
    def pixel_rule(self) -> PixelRule:
        """How stored values become pixels, in training and wherever the bundle is used."""
        return PixelRule(bands=None if self.bands is None else tuple(self.bands), value_range=self.value_range)
