"""Settings of `ssvq experiment`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output

ExperimentName = Literal["table1", "supervision", "latents", "sensitivity", "ablation"]


class ExperimentConfig(Command):
    """Run one of the paper's experiments: train and test a grid of methods, supervision levels and seeds."""

    name: CliPositionalArg[ExperimentName]
    """table1 (Table I), supervision (Fig. 5), latents (Fig. 6), sensitivity (beta, eta), or ablation."""

    data: Location
    """Folder with images/ and masks/, an MVTec AD category, a folder of such categories, or a manifest."""

    out: Output
    """Folder or s3:// prefix of the results; what is finished there is not run again."""

    preset: Literal["paper", "quick", "smoke"] = "quick"
    """paper: 15,000 steps, 10 seeds. quick: some hours on a small machine. smoke: minutes, and nothing is learned."""

    methods: list[str] | None = None
    """Rows of the comparison, such as ss-vq-vae,deep-sad (default: all that the experiment and preset have)."""

    gammas: list[float] | None = None
    """Supervision levels (default: the experiment's and the preset's)."""

    seeds: int | None = Field(None, gt=0)
    """Seeds 0, 1, ... of every cell of the grid (default: the preset's)."""

    steps: int | None = Field(None, gt=0)
    """Optimiser steps of each training (default: the preset's)."""

    object_size: int = Field(128, ge=16, multiple_of=4)
    """Side to which whole images are resized, for the MVTec categories that are objects."""

    parallel: int | None = Field(None, gt=0)
    """Cells that run at the same time (default: one for each GPU, or one)."""

    report_only: bool = False
    """Run nothing: tables and pictures of the cells that are finished."""

    train: dict[str, str] = Field(default_factory=dict)
    """Other settings of ssvq train for every cell, such as architecture.hidden=64 (may be given again)."""
