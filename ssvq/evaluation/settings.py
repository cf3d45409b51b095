"""Settings of `ssvq evaluate`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssvq.imagery.settings import LabelledImages
from ssvq.scoring.settings import ScoringSettings
from ssvq.settings import Output


class EvaluateConfig(LabelledImages, ScoringSettings):
    """Score labelled images and report how well the scores tell anomalous from normal ones."""

    split: Literal["train", "validation", "calibration", "test"] | None = None
    """Only images of this split, which the manifest names (default: all)."""

    bootstrap: int = Field(1000, ge=0)
    """Resamples of the images behind each 95 % interval; 0 for none."""

    seed: int = Field(0, ge=0)
    """Seed of the resamples."""

    plot: Path | None = None
    """PNG file for the histogram of scores and the ROC curve."""

    predictions: Output | None = None
    """Parquet file for the score and label of every tile."""

    json_output: bool = Field(False, alias="json")
    """Print one JSON object instead of tables."""
