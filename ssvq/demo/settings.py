"""Settings of `ssvq demo`."""

from pathlib import Path

from pydantic import Field

from ssvq.settings import Command


class DemoConfig(Command):
    """Run every step on synthetic images in minutes: train, score, query, draw."""

    out: Path = Path("demo")
    """Folder for the output of the demo."""

    steps: int = Field(60, gt=0)
    """Optimiser steps of the training."""

    photographs: int = Field(24, ge=4)
    """Photographs in the training survey; the scored survey has half as many."""

    orthomosaic: tuple[int, int] = (4096, 6144)
    """Height and width of the scored survey's GeoTIFF, in pixels."""

    seed: int = Field(12, ge=0)
    """Seed of the images and of the training."""
