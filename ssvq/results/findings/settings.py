"""Settings of the command that makes findings of score maps."""

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location


class FindingsConfig(Command):
    """Make a table of findings: the connected anomalous regions of each image, with place, area and severity."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote, into which the table is put."""

    survey: str | None = None
    """Survey whose findings are made (default: every survey)."""

    model_id: str | None = None
    """Model whose scores are taken (default: the latest of each survey)."""

    threshold: float | None = Field(None, gt=0)
    """Cell distance at which a region is a finding (default: what, all over a tile, gives it the model's
    threshold)."""

    false_positive_rate: float | None = Field(None, gt=0, lt=1)
    """In place of it: what, all over a tile, only so few normal tiles reach."""

    hysteresis: float = Field(1.0, gt=0, le=1)
    """Share of the threshold down to which a region goes on around the cells that are over it."""

    smallest: float = Field(0.0, ge=0)
    """Pixels of a finding at least."""

    gsd: float | None = Field(None, gt=0)
    """Metres on the object that a pixel covers, for images without a georeference."""

    severity: Path | None = None
    """YAML file of severities and their bounds (default: those that docs/findings.md names)."""

    @model_validator(mode="after")
    def _one_threshold(self) -> "FindingsConfig":
        if self.threshold is not None and self.false_positive_rate is not None:
            raise ValueError("--threshold and --false-positive-rate exclude each other")
        return self
