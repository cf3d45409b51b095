"""Settings of the commands that look at score maps, and of the demo."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from ssvq.config.base import Command, Location


class QueryConfig(Command):
    """Run SQL over the score maps: views `tiles` (a row a tile) and `images` (the latest row of each image)."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    sql: CliPositionalArg[str]
    """The SQL to run, in DuckDB's dialect."""

    format: Literal["table", "csv", "json", "parquet"] = "table"
    """Format of the answer; parquet is written to --out or, as bytes, to standard output."""

    out: Path | None = None
    """File for the answer (default: standard output)."""


class OverlayConfig(Command):
    """Write a picture of one image with the heat of its score map over it."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    image: CliPositionalArg[str]
    """The image: its address, or the end of it where that names one image only."""

    out: Path
    """PNG file to write."""

    model_id: str | None = None
    """Model whose scores are drawn (default: the latest)."""


class DemoConfig(Command):
    """Make synthetic surveys, train, score, query and draw: everything on this machine, in minutes."""

    out: Path = Path("demo")
    """Folder for everything that the demo makes."""

    steps: int = Field(500, gt=0)
    """Optimiser steps of the training."""

    photographs: int = Field(24, ge=4)
    """Photographs in the training survey; the scored survey has half as many."""

    orthomosaic: tuple[int, int] = (4096, 6144)
    """Height and width of the scored survey's GeoTIFF, in pixels."""

    seed: int = Field(12, ge=0)
    """Seed of the images and of the training."""
