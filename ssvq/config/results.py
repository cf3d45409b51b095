"""Settings of the commands that look at score maps, and of the demo."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.config.base import Command, Location

NamedQuery = Literal["worst-tiles", "by-image", "failures", "trend", "drift"]


class QueryConfig(Command):
    """Run SQL over the score maps: views `tiles` (a row a tile), `images` (the latest row of each) and `findings`."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    sql: CliPositionalArg[str] = ""
    """The SQL to run, in DuckDB's dialect; or give --named."""

    named: NamedQuery | None = None
    """A ready-made query: worst-tiles, by-image, failures, trend (by survey), or drift (of scores from calibration)."""

    survey: list[str] | None = None
    """Only these surveys (default: all)."""

    model_id: str | None = None
    """Only this model (default: all)."""

    threshold: float | None = None
    """Scores at or over it are anomalous (default: the model's own threshold)."""

    false_positive_rate: float | None = Field(None, gt=0, lt=1)
    """Anomalous is what so few normal tiles would be: p_value at or under it."""

    limit: int = Field(20, gt=0)
    """Rows of worst-tiles and by-image."""

    format: Literal["table", "csv", "json", "parquet"] = "table"
    """Format of the answer; parquet is written to --out or, as bytes, to standard output."""

    out: Path | None = None
    """File for the answer (default: standard output)."""

    @model_validator(mode="after")
    def _one_query(self) -> "QueryConfig":
        if bool(self.sql) == (self.named is not None):
            raise ValueError("give the SQL to run, or --named and the name of a query, and not both")
        if self.threshold is not None and self.false_positive_rate is not None:
            raise ValueError("--threshold and --false-positive-rate exclude each other")
        return self


class PublishConfig(Command):
    """Make one sorted GeoParquet file of all score maps of a survey, for analysts."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    model_id: str | None = None
    """Only the scores of this model (default: each model has its file)."""


class OverlayConfig(Command):
    """Write a picture of one image with the heat of its score map over it, or of the worst tiles of a survey."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    image: CliPositionalArg[str] = ""
    """The image: its address, or the end of it where that names one image only; or give --worst."""

    out: Path
    """PNG file to write."""

    worst: int | None = Field(None, gt=0, le=100)
    """A montage of so many tiles with the highest scores."""

    survey: str | None = None
    """Survey of the montage (default: all)."""

    model_id: str | None = None
    """Model whose scores are drawn (default: the latest)."""

    @model_validator(mode="after")
    def _one_picture(self) -> "OverlayConfig":
        if bool(self.image) == (self.worst is not None):
            raise ValueError("give the image to draw, or --worst and how many tiles, and not both")
        return self


class DemoConfig(Command):
    """Make synthetic surveys, train, score, query and draw: everything on this machine, in minutes."""

    out: Path = Path("demo")
    """Folder for everything that the demo makes."""

    steps: int = Field(60, gt=0)
    """Optimiser steps of the training."""

    photographs: int = Field(24, ge=4)
    """Photographs in the training survey; the scored survey has half as many."""

    orthomosaic: tuple[int, int] = (4096, 6144)
    """Height and width of the scored survey's GeoTIFF, in pixels."""

    seed: int = Field(12, ge=0)
    """Seed of the images and of the training."""
