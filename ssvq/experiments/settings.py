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
    """Folder or s3:// prefix of the results; finished trainings there are not repeated."""

    preset: Literal["paper", "quick", "smoke"] = "quick"
    """paper: 15,000 steps, 10 seeds. quick: some hours on a small machine. smoke: minutes, learns nothing."""

    methods: list[str] | None = None
    """Methods to compare, such as ss-vq-vae,deep-sad (default: those of the experiment and preset)."""

    gammas: list[float] | None = None
    """Supervision levels (default: those of the experiment and preset)."""

    seeds: int | None = Field(None, gt=0)
    """Number of seeds for every cell of the grid (default: by the preset)."""

    steps: int | None = Field(None, gt=0)
    """Optimiser steps of each training (default: by the preset)."""

    object_size: int = Field(128, ge=16, multiple_of=4)
    """Side of resized whole images, for MVTec categories that are objects."""

    parallel: int | None = Field(None, gt=0)
    """Trainings that run at the same time (default: one for each GPU, or one)."""

    report_only: bool = False
    """Train nothing; only write tables and pictures of finished trainings."""

    train: dict[str, str] = Field(default_factory=dict)
    """Other settings of ssvq train for every training, such as architecture.hidden=64 (may be repeated)."""
