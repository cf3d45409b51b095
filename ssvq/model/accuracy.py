"""What held-out tiles say of a bundle, with intervals: kept in the bundle, shown by its model card and in reports."""

import math
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ssvq.model.description import Bundle, Figure

Split = Literal["validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
ACCURACY = "accuracy"  # name in `Bundle.training`


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)  # what a later version adds is passed over


class Estimated(_Part):
    """A figure, and its 95 % interval over images; NaN, in JSON null, where there is none."""

    value: Figure
    low: Figure
    high: Figure

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval: not with fewer than two images."""
        return not math.isnan(self.low) and not math.isnan(self.high)


class SplitAccuracy(_Part):
    """How the tiles of a split are told apart by the column that decides."""

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
    """AUROC of the mean of red minus blue on the same tiles, which needs no learning."""


def accuracy_of(bundle: Bundle) -> dict[Split, SplitAccuracy]:
    """By split, those that have tiles; nothing for a bundle of an earlier version, which kept none."""
    try:
        return TypeAdapter(dict[Split, SplitAccuracy]).validate_python(bundle.training.get(ACCURACY, {}))
    except ValidationError:
        return {}


def saved(accuracy: dict[Split, SplitAccuracy]) -> dict[str, object]:
    """For `Bundle.training`: JSON has no NaN."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return {split: plain(figures.model_dump()) for split, figures in accuracy.items()}
