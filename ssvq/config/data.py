"""Settings that say where labelled images are and what their labels mean."""

import re

from pydantic import Field, model_validator

from ssvq.config.base import ImageJob, Location


class LabelledImages(ImageJob):
    """Labelled images, from one of three layouts: --images with --masks, --mvtec, or --manifest."""

    images: Location | None = None
    """Folder or s3:// prefix of the images."""

    masks: Location | None = None
    """Folder or s3:// prefix of their masks, same names: 0 normal, other values anomalous (default: all normal)."""

    mvtec: Location | None = None
    """Folder or s3:// prefix of one category in the MVTec AD layout: train/good, test/DEFECT, ground_truth/DEFECT."""

    manifest: Location | None = None
    """CSV or Parquet file with the column image and any of mask, label, split, group; paths relative to the file."""

    anomalous_classes: list[int] | None = None
    """Mask values that are anomalous, such as 2,3 (default: all but 0)."""

    group_pattern: str | None = None
    """Regular expression over image paths; images whose match (or its first group) is the same stay in one split."""

    normal_fraction: float | None = Field(None, ge=0, lt=1)
    """Leave out tiles with more than this share of anomalous pixels that are not anomalous (default: none)."""

    @model_validator(mode="after")
    def _one_layout(self) -> "LabelledImages":
        given = [name for name in ("images", "mvtec", "manifest") if getattr(self, name) is not None]
        if not given:
            raise ValueError("--images is missing (or --mvtec, or --manifest)")
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
        name = next(name for name in ("images", "mvtec", "manifest") if getattr(self, name) is not None)
        return f"--{name} {getattr(self, name)}"
