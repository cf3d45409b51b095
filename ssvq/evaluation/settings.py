"""Settings of `ssvq evaluate`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssvq.imagery.settings import LabelledImages
from ssvq.scoring.settings import ScoringSettings
from ssvq.settings import Output


class EvaluateConfig(LabelledImages, ScoringSettings):
    """Score labelled images and report how well the scores separate anomalous from normal tiles."""

    split: Literal["train", "validation", "calibration", "test"] | None = None
    """Use only the images of this split of the manifest (default: all)."""

    bootstrap: int = Field(1000, ge=0)
    """Bootstrap resamples of the images for 95 % intervals; 0 for no intervals."""

    seed: int = Field(0, ge=0)
    """Seed of the bootstrap."""

    plot: Path | None = None
    """PNG file for the histogram of scores and the ROC curve."""

    predictions: Output | None = None
    """Parquet file for the score and label of every tile."""

    json_output: bool = Field(False, alias="json")
    """Print one JSON object instead of tables."""
