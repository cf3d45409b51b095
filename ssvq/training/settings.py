"""Settings of `ssvq train`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ssvq.imagery.settings import StoredPixels
from ssvq.methods.registry import MethodName
from ssvq.methods.settings import MethodSettings
from ssvq.model.calibration import DEFAULT_RATE
from ssvq.model.settings import Architecture, CodebookSettings
from ssvq.runtime.settings import ImageJob
from ssvq.settings import HOW_IT_RUNS, Location, Output, Section
from ssvq.training.tracking.address import check_address


class Optimiser(Section):
    """Adam and its schedule."""

    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Course of the learning rate: constant (the paper), or falling to 0 on a line or a cosine."""

    warmup_steps: int = Field(0, ge=0)
    """Steps of warm-up, in which the learning rate rises from 0."""

    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradients; larger ones are clipped."""

    weight_average: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which then scores (default: the last weights score)."""


class Augmentation(Section):
    """Random changes of training samples that keep the label."""

    flips: bool = True
    """Mirror samples left to right."""

    turns: bool = True
    """Rotate samples by quarter turns; switch off if up and down matter."""

    brightness: float = Field(0.0, ge=0, lt=1)
    """Multiply the pixels of a sample by a random factor between 1 - this and 1 + this."""


class TrainConfig(StoredPixels, ImageJob, MethodSettings):
    """Train a model on labelled images and write it as a bundle."""

    labels: Location | None = None
    """Labels file of `ssvq label`: additional tiles to train on. All of them are used, whatever --supervision says."""

    out: Annotated[Output, HOW_IT_RUNS]
    """Folder or s3:// prefix of the bundle; an unfinished training is resumed."""

    method: MethodName = "ss-vq-vae"
    """Method: ss-vq-vae, or one of those it is compared with (docs/explanation/methods.md)."""

    tile_size: int = Field(512, ge=16, le=4096)
    """Side of a tile, in pixels of the source."""

    whole_images: bool = False
    """Resize every image to one square tile of --tile-size, as the paper does with objects."""

    crop: int | None = Field(None, ge=16)
    """Side of random crops of the tiles to train on, in pixels (default: whole tiles; with a timm network and tiles of
    at least 512 pixels, half a tile's side)."""

    anomalous_fraction: float = Field(0.5, gt=0, le=1)
    """A tile or crop is anomalous if at least this share of its pixels is, else normal."""

    supervision: float = Field(0.2, ge=0, le=0.5)
    """Supervision level gamma = M / (M + N): largest share of labelled anomalous tiles M beside N normal ones."""

    normal_tiles: int | None = Field(None, gt=0)
    """Largest number of normal tiles N to train on (default: all)."""

    validation_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the images (or groups) that choose the checkpoint."""

    calibration_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the images (or groups) that set thresholds and p-values."""

    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the images (or groups) for an untouched test set; its scores are in the bundle's held-out.parquet."""

    steps: int = Field(15_000, gt=0)
    """Optimiser steps (with a timm network the default is 200)."""

    batch_size: int = Field(128, ge=2)
    """Samples in a step, over all workers (with a timm network the default is 64 crops, or as many whole tiles as have
    the same pixels)."""

    anomalous_share: float = Field(0.5, gt=0, lt=1)
    """Share of a batch that comes from labelled anomalous tiles, if there are any."""

    validation_tiles: int = Field(256, gt=0)
    """Largest number of tiles in a validation, half of them anomalous."""

    calibration_tiles: int = Field(5000, gt=0)
    """Largest number of tiles that set thresholds and p-values, drawn at random."""

    test_tiles: int = Field(2500, gt=0)
    """Largest number of test tiles scored at the end, half of them anomalous, as in the paper."""

    validate_every: int = Field(250, gt=0)
    """Steps between validations, each with a checkpoint; the checkpoint with the best AUROC becomes the bundle (with a
    timm network the default is 50)."""

    decide_by: Literal["auto", "score", "score_worst"] = "auto"
    """Column that is_anomalous follows: score (how much of a tile is anomalous) or score_worst (whether anything is).
    auto: the one with the better AUROC on validation tiles."""

    false_positive_rate: Annotated[float, Field(gt=0, lt=1)] | Literal["equal-error-rate"] = DEFAULT_RATE
    """Share of normal tiles that may reach the threshold of is_anomalous, or equal-error-rate (the paper). With too few
    normal calibration tiles for the share, the equal error rate sets the threshold."""

    checkpoints: Annotated[int, HOW_IT_RUNS] = Field(2, gt=0)
    """Number of latest checkpoints to keep; each also holds the best weights so far."""

    log_every: Annotated[int, HOW_IT_RUNS] = Field(10, gt=0)
    """Steps between entries in metrics.jsonl and TensorBoard."""

    num_workers: Annotated[int, HOW_IT_RUNS] = Field(1, gt=0)
    """Training workers (DDP ranks), one GPU each where there are GPUs."""

    min_workers: Annotated[int | None, HOW_IT_RUNS] = Field(None, gt=0)
    """Smallest number of workers to start with, and to continue with after a loss (default: --num-workers)."""

    loaders: Annotated[int, HOW_IT_RUNS] = Field(2, gt=0)
    """Tasks that load and crop samples at the same time, for each worker and on its node."""

    track: Annotated[Annotated[str, AfterValidator(check_address)] | None, HOW_IT_RUNS] = None
    """Show the training in a tracker too: mlflow, mlflow://HOST:PORT, mlflow+URI, wandb or wandb://ENTITY/PROJECT.
    Credentials come from the tracker's own variables."""

    seed: int = Field(0, ge=0)
    """Seed of all random choices."""

    tile_cache: Annotated[Output | None, HOW_IT_RUNS] = None
    """Folder or s3:// prefix that keeps the cut tiles for later runs (default: in --out, until training is done)."""

    architecture: Architecture = Architecture(encoder="auto")
    codebook: CodebookSettings = CodebookSettings()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.crop is not None and self.crop > self.tile_size:
            raise ValueError(f"--crop {self.crop} exceeds --tile-size {self.tile_size}")
        if self.crop is not None and self.whole_images:
            raise ValueError("--crop and --whole-images exclude each other: a crop does not have the image's label")
        if self.normal_fraction is not None and self.normal_fraction >= self.anomalous_fraction:
            raise ValueError(
                f"--normal-fraction {self.normal_fraction} must be below --anomalous-fraction {self.anomalous_fraction}"
            )
        held_out = self.validation_fraction + self.calibration_fraction + self.test_fraction
        if held_out >= 1:
            raise ValueError(
                "--validation-fraction, --calibration-fraction and --test-fraction leave no image for training: "
                f"their sum is {held_out:g}"
            )
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"--min-workers {self.min_workers} exceeds --num-workers {self.num_workers}")
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
        """Samples of a batch that come from labelled anomalous tiles, if there are any."""
        return round(self.anomalous_share * self.batch_size)

    @property
    def sample_size(self) -> int:
        """Side of a training sample, in pixels."""
        return self.crop or self.tile_size

    @property
    def normal_limit(self) -> float:
        """Largest anomalous share of a normal tile. A tile must also be below --anomalous-fraction."""
        return 1.0 if self.normal_fraction is None else self.normal_fraction
