"""Settings for reading images: limits, where labelled images are, and what their labels mean."""

import re
from typing import Any, ClassVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ssvq.imagery.pixel_rule import PixelRule
from ssvq.settings import Command, Location, Section


class ReadLimits(Section):
    """Limits of decoding; an image that exceeds them fails."""

    seconds: float = Field(120, gt=0)
    """Seconds to decode one part of an image (at most 128 tiles of 512x512), without the time that S3 takes."""

    memory: int = Field(2048, ge=256)
    """Memory limit of a decoding process, in MiB."""


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


class LabelledImages(ImageReading):
    """Labelled images, from one of three layouts: --images with --masks, --mvtec, or --manifest."""

    layouts: ClassVar[tuple[str, ...]] = ("images", "mvtec", "manifest")
    """The settings that can say where the images are; exactly one must be given."""

    images: Location | None = None
    """Folder or s3:// prefix of the images."""

    masks: Location | None = None
    """Folder or s3:// prefix of the masks, named like the images: 0 is normal, other values anomalous (default: all
    images are normal)."""

    mvtec: Location | None = None
    """Folder or s3:// prefix of one category in the MVTec AD layout: train/good, test/DEFECT, ground_truth/DEFECT."""

    manifest: Location | None = None
    """CSV or Parquet file with a column image, and any of mask, label, split, group; paths are relative to the file."""

    anomalous_classes: list[int] | None = None
    """Mask values that are anomalous, such as 2,3 (default: all but 0; in a palette, all colours but black)."""

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
            raise ValueError(f"--{given[0]} and --{given[1]} name two layouts: give one")
        if self.masks is not None and self.images is None:
            raise ValueError("--masks goes with --images")
        if self.anomalous_classes is not None and not all(0 < value < 256 for value in self.anomalous_classes):
            raise ValueError("--anomalous-classes are mask values from 1 to 255")
        return self

    @model_validator(mode="after")
    def _pattern_compiles(self) -> "LabelledImages":
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise ValueError(f"--group-pattern {self.group_pattern!r} is not a regular expression: {error}") from None
        return self

    @property
    def source(self) -> str:
        """The setting and address that the images come from, for messages."""
        name = next(name for name in self.layouts if getattr(self, name) is not None)
        return f"--{name} {getattr(self, name)}"


class StoredPixels(LabelledImages):
    """Labelled images, and how their stored values become the pixels that a model sees."""

    bands: list[int] | None = None
    """Bands for red, green and blue, such as 4,3,2, or one band for grey (default: by the colours of the image)."""

    value_range: tuple[float, float] | None = None
    """Stored values that map to 0 and 255, such as 0,10000; write =-50,50 below 0 (default: 8-bit values unchanged)."""

    @field_validator("bands", "value_range")
    @classmethod
    def _is_rule(cls, value: Any, info: ValidationInfo) -> Any:
        """Checked by the rule itself, here, so that the message names the setting."""
        try:
            PixelRule.model_validate({info.field_name: value})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return value

    @property
    def pixel_rule(self) -> PixelRule:
        """How stored values become pixels, in the training and wherever its bundle is used."""
        return PixelRule(bands=None if self.bands is None else tuple(self.bands), value_range=self.value_range)
