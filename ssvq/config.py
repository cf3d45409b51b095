"""Every setting of every command: typed, validated, documented; the one place where defaults stand.

A setting is filled by, in rising precedence: its default, the YAML file named by `--config`, the environment
(`SSVQ_STEPS`, nested `SSVQ_OPTIMISER__LEARNING_RATE`), the command line (`--steps`, `--optimiser.learning-rate`).
The docstring under a field is its line in `--help`. What a command resolved is saved beside its output.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from ssvq import storage
from ssvq.errors import InputError

ENV_PREFIX = "SSVQ_"

Location = Annotated[str, AfterValidator(storage.absolute)]
Device = Literal["auto", "cuda", "cpu"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]


class Section(BaseModel):
    """A group of settings; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Architecture(Section):
    """Widths of the network; the defaults are the paper's."""

    hidden: int = Field(128, gt=1, multiple_of=2)
    """Feature maps of the hidden layers."""

    residual_hidden: int = Field(32, gt=0)
    """Feature maps inside a residual layer."""

    residual_layers: int = Field(2, ge=0)
    """Residual layers in the encoder and in the decoder."""

    codes: int = Field(512, gt=1)
    """Codes K in the codebook."""

    dimensions: int = Field(64, gt=0)
    """Dimensions D of a code."""


class Objective(Section):
    """The training objective (Eq. 2 to 4)."""

    name: Literal["bounded", "paper"] = "bounded"
    """bounded: a margin on the latent distance of anomalous samples. paper: Eq. 2 to 4 as printed, which diverges."""

    beta: float = Field(1.0, ge=0)
    """Weight of the commitment term."""

    eta: float = Field(0.5, gt=0)
    """Weight of the normal loss; the anomalous loss has 1 - eta."""

    margin: float = Field(1.0, gt=0)
    """bounded: squared latent distance, a mean over channels, that anomalous samples are pushed beyond."""

    margin_on: Literal["sample", "cell"] = "sample"
    """bounded: the margin acts on the mean over a sample's cells, or on every cell."""


class CodebookSettings(Section):
    """How the codebook learns (objective bounded; with paper it learns by gradient alone)."""

    decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the exponential moving averages of the codes, by step."""

    reseed_every: int = Field(50, gt=0)
    """Steps between looks for dead codes, which are set anew to encoder outputs."""

    dead_below: float = Field(0.05, ge=0)
    """A code is dead when its moving usage is under this share of the mean usage."""


class Optimiser(Section):
    """Adam and its schedule."""

    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""

    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the steps: constant (the paper), or cosine down to 0."""

    clip_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""


class Command(BaseSettings):
    """What every command takes."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags="dual",
        cli_exit_on_error=False,
        protected_namespaces=(),
    )

    config: Path | None = None
    """YAML file with settings of this command."""

    debug: bool = False
    """Show tracebacks and Ray's own log."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Rank the sources: flags (put first by the command line), environment, YAML file."""
        return init_settings, env_settings, ConfigFile(settings_cls)

    def saved(self) -> dict[str, Any]:
        """The resolved settings as JSON values, for saving beside an output. No setting is a secret."""
        return self.model_dump(mode="json", exclude={"config", "debug"})


class ConfigFile(YamlConfigSettingsSource):
    """The YAML file that a stronger source (flag or environment) named by `config`."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, yaml_file=None)

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        if path is None:
            return {}
        try:
            values = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise InputError(f"--config {path} cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values or {}, dict):
            raise InputError(f"--config {path} must hold `setting: value` lines")
        return values or {}


class ImageJob(Command):
    """A job over many images with a model, on Ray."""

    device: Device = "auto"
    """Device of the model: CUDA where the cluster has GPUs, else CPU."""

    precision: Precision = "auto"
    """Arithmetic of the network: bf16 where the hardware has it, fp16 on older GPUs, else fp32."""

    allow_failed_images: bool = False
    """Exit 0 also when some images failed (else 3); they are reported either way."""


class LabelledTiles(Command):
    """Labelled tiles from images and masks."""

    images: Location
    """Folder or s3:// prefix of the images."""

    masks: Location
    """Folder or s3:// prefix of the masks: same names, 0 normal, other values anomalous."""


class TrainConfig(LabelledTiles, ImageJob):
    """Train a model on labelled images and write it as a bundle."""

    out: Location
    """Folder or s3:// prefix of the bundle; an unfinished one is resumed."""

    tile_size: int = Field(512, ge=16, le=4096, multiple_of=4)
    """Side of a tile, in pixels of the source."""

    crop: int | None = Field(None, ge=16, multiple_of=4)
    """Train on random crops of this side from the tiles, in pixels (default: whole tiles)."""

    anomalous_fraction: float = Field(0.5, gt=0, le=1)
    """A tile (or crop) is anomalous at or over this share of anomalous pixels, else normal."""

    supervision: float = Field(0.2, ge=0, le=0.5)
    """Supervision level gamma = M / (M + N): share of labelled anomalous tiles, as far as there are as many."""

    steps: int = Field(15_000, gt=0)
    """Optimiser steps."""

    batch_size: int = Field(128, ge=2)
    """Samples in a step, over all workers."""

    anomalous_share: float = Field(0.5, gt=0, lt=1)
    """Share of a batch that is drawn from the labelled anomalous tiles, when there are any."""

    augment: bool = True
    """Flip and turn the samples by quarters at random."""

    validation_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the images kept apart for validation and the threshold."""

    validation_tiles: int = Field(256, gt=0)
    """Most tiles scored in a validation during training; the final one takes all."""

    validate_every: int = Field(250, gt=0)
    """Steps between validations, each with a checkpoint."""

    num_workers: int = Field(1, gt=0)
    """Training workers (DDP ranks), one GPU each where there are GPUs."""

    loaders: int = Field(2, gt=0)
    """Tasks at a time that load and crop samples, for each worker."""

    seed: int = Field(0, ge=0)
    """Seed of every draw."""

    tile_cache: Location | None = None
    """Folder or s3:// prefix that keeps the cut tiles for later runs (default: within --out, until done)."""

    architecture: Architecture = Architecture()
    objective: Objective = Objective()
    codebook: CodebookSettings = CodebookSettings()
    optimiser: Optimiser = Optimiser()

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.crop is not None and self.crop > self.tile_size:
            raise ValueError(f"--crop {self.crop} is over --tile-size {self.tile_size}")
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


def training_identity(saved: dict[str, Any]) -> dict[str, Any]:
    """The saved settings that decide what is learned: two runs with the same are the same run."""
    elsewhere = {"out", "num_workers", "loaders", "device", "tile_cache", "allow_failed_images"}
    return {name: value for name, value in saved.items() if name not in elsewhere}


class ScoringSettings(ImageJob):
    """How a trained model is run over tiles."""

    model: Location
    """Folder or s3:// prefix of the bundle."""

    batch_size: int = Field(16, gt=0)
    """Tiles in a batch of the model."""

    scorers: int | None = Field(None, gt=0)
    """Scoring actors (default: one for each GPU, or one for each node without GPUs)."""


class ScoreConfig(ScoringSettings):
    """Score the images of a survey and write Parquet score maps; only new and changed images are scored."""

    survey: Location
    """Folder or s3:// prefix of the images to score."""

    survey_name: str | None = None
    """Name of the survey in the output (default: the last part of its path)."""

    out: Location
    """Folder or s3:// prefix of the score maps, shared by all surveys."""


class EvaluateConfig(LabelledTiles, ScoringSettings):
    """Score labelled images and report AUROC, average precision and the confusion at the threshold."""

    json_output: bool = Field(False, alias="json")
    """Print one JSON object instead of a table."""


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
