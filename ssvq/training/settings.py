"""Settings of `ssvq train`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ssvq.imagery.settings import StoredPixels
from ssvq.methods.registry import MethodName
from ssvq.methods.settings import MethodSettings
from ssvq.model.settings import Architecture, CodebookSettings
from ssvq.runtime.settings import ImageJob
from ssvq.settings import HOW_IT_RUNS, Location, Output, Section
from ssvq.training.tracking.address import check_address


class Optimiser(Section):
    """Adam and its schedule."""

    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Learning rate over the steps: constant (the paper), or down to 0 in a line or along a cosine."""

    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0 first."""

    clip_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""

    weight_average: float | None = Field(None, gt=0, lt=1)
    """Score with the exponential moving average of the weights, of this decay by step (default: with the last)."""


class Augmentation(Section):
    """Random changes of the training samples that leave their label as it is."""

    flips: bool = True
    """Mirror samples left to right."""

    turns: bool = True
    """Turn samples by quarters; off where up and down matter."""

    brightness: float = Field(0.0, ge=0, lt=1)
    """Multiply the pixels of a sample by a factor from 1 - this to 1 + this."""


class TrainConfig(StoredPixels, ImageJob, MethodSettings):
    """Train a model on labelled images and write it as a bundle."""

    labels: Location | None = None
    """Tiles that `ssvq label` labelled, as further examples to train on; all of them, whatever --supervision."""

    out: Annotated[Output, HOW_IT_RUNS]
    """Folder or s3:// prefix of the bundle; an unfinished one is resumed."""

    method: MethodName = "ss-vq-vae"
    """Method: ss-vq-vae, or one of those that it is compared with (docs/explanation/methods.md)."""

    tile_size: int = Field(512, ge=16, le=4096)
    """Side of a tile, in pixels of the source."""

    whole_images: bool = False
    """Take every image whole, resized to a square of --tile-size, as the paper takes objects."""

    crop: int | None = Field(None, ge=16)
    """Train on random crops of this side from the tiles, in pixels (default: whole tiles; with a timm network half a
    tile's side, from 512 pixels)."""

    anomalous_fraction: float = Field(0.5, gt=0, le=1)
    """A tile (or crop) is anomalous at or over this share of anomalous pixels, else normal."""

    supervision: float = Field(0.2, ge=0, le=0.5)
    """Supervision level gamma = M / (M + N): share of labelled anomalous tiles, as far as there are as many."""

    normal_tiles: int | None = Field(None, gt=0)
    """Most normal tiles N that the training draws on (default: all)."""

    validation_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the images (or groups) that choose the checkpoint."""

    calibration_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the images (or groups) that set thresholds and p-values."""

    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the images (or groups) that nothing is chosen by: the test of the bundle's held-out.parquet."""

    steps: int = Field(15_000, gt=0)
    """Optimiser steps; with a timm network the default is 200."""

    batch_size: int = Field(128, ge=2)
    """Samples in a step, over all workers; with a timm network the default is 64 crops, or as many whole tiles as have
    the same pixels."""

    anomalous_share: float = Field(0.5, gt=0, lt=1)
    """Share of a batch that is drawn from the labelled anomalous tiles, when there are any."""

    validation_tiles: int = Field(256, gt=0)
    """Most tiles scored in a validation, half of them anomalous."""

    calibration_tiles: int = Field(5000, gt=0)
    """Most tiles that set thresholds and p-values, drawn as they come."""

    test_tiles: int = Field(2500, gt=0)
    """Most test tiles scored at the end, half of them anomalous, as in the paper."""

    validate_every: int = Field(250, gt=0)
    """Steps between validations, each with a checkpoint; the one with the best AUROC becomes the bundle. With a timm
    network the default is 50."""

    decide_by: Literal["auto", "score", "score_worst"] = "auto"
    """Which column is_anomalous follows: score (how much of a tile) or score_worst (is there any). auto: the one that
    has the better AUROC on validation tiles."""

    checkpoints: Annotated[int, HOW_IT_RUNS] = Field(2, gt=0)
    """Latest checkpoints kept; each carries the best weights so far too."""

    log_every: Annotated[int, HOW_IT_RUNS] = Field(10, gt=0)
    """Steps between figures in metrics.jsonl and TensorBoard."""

    num_workers: Annotated[int, HOW_IT_RUNS] = Field(1, gt=0)
    """Training workers (DDP ranks), one GPU each where there are GPUs."""

    min_workers: Annotated[int | None, HOW_IT_RUNS] = Field(None, gt=0)
    """Elastic: begin, and go on after a loss, with as few workers as this (default: --num-workers)."""

    loaders: Annotated[int, HOW_IT_RUNS] = Field(2, gt=0)
    """Tasks at a time that load and crop samples, for each worker and on its node."""

    track: Annotated[Annotated[str, AfterValidator(check_address)] | None, HOW_IT_RUNS] = None
    """Show the training in a tracker too: mlflow, mlflow://HOST:PORT, mlflow+URI, wandb or wandb://ENTITY/PROJECT.
    Credentials come from the tracker's own variables."""

    seed: int = Field(0, ge=0)
    """Seed of every draw."""

    tile_cache: Annotated[Output | None, HOW_IT_RUNS] = None
    """Folder or s3:// prefix that keeps the cut tiles for later runs (default: within --out, until done)."""

    architecture: Architecture = Architecture(encoder="auto")
    codebook: CodebookSettings = CodebookSettings()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.crop is not None and self.crop > self.tile_size:
            raise ValueError(f"--crop {self.crop} is over --tile-size {self.tile_size}")
        if self.crop is not None and self.whole_images:
            raise ValueError("--crop and --whole-images exclude each other: a crop has no label of its image")
        if self.normal_fraction is not None and self.normal_fraction >= self.anomalous_fraction:
            raise ValueError(
                f"--normal-fraction {self.normal_fraction} must be under --anomalous-fraction {self.anomalous_fraction}"
            )
        held_out = self.validation_fraction + self.calibration_fraction + self.test_fraction
        if held_out >= 1:
            raise ValueError(
                "--validation-fraction, --calibration-fraction and --test-fraction leave no image for training: "
                f"their sum is {held_out:g}"
            )
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"--min-workers {self.min_workers} is over --num-workers {self.num_workers}")
        if self.method == "patch-knn" and self.architecture.encoder == "paper":
            raise ValueError(
                "--method patch-knn compares features of a pretrained network, which the paper's encoder is not: leave "
                "--architecture.encoder out, or name one"
            )
        normal = self.batch_size - self.anomalous_in_batch
        if normal % self.num_workers or self.anomalous_in_batch % self.num_workers:
            raise ValueError(
                f"--batch-size {self.batch_size} gives {normal} normal and {self.anomalous_in_batch} anomalous "
                f"samples, which --num-workers {self.num_workers} cannot share evenly"
            )
        return self

    @property
    def anomalous_in_batch(self) -> int:
        """Samples of a batch that come from labelled anomalous tiles, where there are any."""
        return round(self.anomalous_share * self.batch_size)

    @property
    def sample_size(self) -> int:
        """Side of a training sample, in pixels."""
        return self.crop or self.tile_size

    @property
    def normal_limit(self) -> float:
        """Greatest share of anomalous pixels of a normal tile; a tile must also be under --anomalous-fraction."""
        return 1.0 if self.normal_fraction is None else self.normal_fraction
