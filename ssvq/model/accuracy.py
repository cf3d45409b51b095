"""The accuracy of a bundle on held-out tiles, with intervals. It is kept in the bundle, and shown in model card and
reports.
"""

import math
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ssvq.model.description import Bundle, Figure

Split = Literal["validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
ACCURACY = "accuracy"  # key in `Bundle.training`


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)  # fields of later versions are ignored


class Estimated(_Part):
    """A figure and its 95 % interval over images; NaN, in JSON null, if it is undefined."""

    value: Figure
    low: Figure
    high: Figure

    @property
    def known(self) -> bool:
        """Whether the figure is defined."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval; it needs at least two images."""
        return not math.isnan(self.low) and not math.isnan(self.high)


class SplitAccuracy(_Part):
    """How well the deciding column separates the tiles of a split."""

    images: int
    normal_tiles: int
    anomalous_tiles: int
    auroc: Estimated
    average_precision: Estimated

    found: Estimated
    """Share of the anomalous tiles at or over the threshold."""

    false_alarms: Estimated
    """Share of the normal tiles at or over the threshold."""

    colour_auroc: Estimated
    """AUROC of the mean of red minus blue on the same tiles: a baseline without learning."""


def accuracy_of(bundle: Bundle) -> dict[Split, SplitAccuracy]:
    """Accuracy by split, for splits with tiles; empty for a bundle of an earlier version."""
    try:
        return TypeAdapter(dict[Split, SplitAccuracy]).validate_python(bundle.training.get(ACCURACY, {}))
    except ValidationError:
        return {}


def saved(accuracy: dict[Split, SplitAccuracy]) -> dict[str, object]:
    """Accuracy for `Bundle.training`: NaN becomes null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return {split: plain(figures.model_dump()) for split, figures in accuracy.items()}
