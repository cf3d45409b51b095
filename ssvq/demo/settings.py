"""Settings of `ssvq demo`."""

from pathlib import Path

from pydantic import Field

from ssvq.settings import Command


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
