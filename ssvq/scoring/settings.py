"""Settings of the commands that run a trained model: `ssvq score` and `ssvq evaluate`."""

from typing import Literal

from pydantic import Field, model_validator

from ssvq.runtime.settings import ImageJob
from ssvq.settings import Location, Output


class ScoringSettings(ImageJob):
    """How a trained model is run over tiles."""

    model: Location
    """Folder or s3:// prefix of the bundle."""

    batch_size: int | None = Field(None, gt=0)
    """Tiles in a batch of the model (default: what suits the GPU's memory); a CPU core takes at most 512x512 pixels."""

    decode: Literal["auto", "cpu", "gpu"] = "auto"
    """Where JPEG files are decoded: cpu, or on the scorer's gpu (needs ssvq[gpu]); auto is cpu. Others: on CPUs."""

    compile: bool = False
    """Compile the network with torch.compile: slower to start, faster on GPUs. The paper's encoder has faster kernels
    of its own there."""

    scorers: int | None = Field(None, gt=0)
    """Scoring actors (default: one for each GPU, or one for each node without GPUs)."""

    max_scorers: int | None = Field(None, gt=0)
    """Begin with --scorers (or one) and add up to so many while there is work, as an autoscaling cluster grows."""

    gpus_per_scorer: float = Field(1, gt=0, le=1)
    """Share of a GPU that a scorer takes: 0.5 lets two share one."""

    @model_validator(mode="after")
    def _pool_grows(self) -> "ScoringSettings":
        if self.max_scorers is not None and self.max_scorers < (self.scorers or 1):
            raise ValueError(f"--max-scorers {self.max_scorers} is under --scorers {self.scorers}")
        return self


class SurveyScoring(ScoringSettings):
    """How surveys are scored into an output."""

    out: Output
    """Folder or s3:// prefix of the score maps, shared by all surveys."""

    stride: int | None = Field(None, gt=0)
    """Pixels from one tile to the next; under the model's tile size tiles overlap (default: the tile size)."""

    include: list[str] | None = None
    """Score only images whose path in the survey matches one of these patterns, such as 'a/*.jpg' (default: all)."""

    exclude: list[str] | None = None
    """Leave out images whose path in the survey matches one of these patterns; * matches / too."""

    retry_failed: bool = True
    """Score images again that failed in an earlier run and have not changed since."""

    prune: bool = False
    """Remove the scores of images that are no longer in the survey."""

    dry_run: bool = False
    """Say what would be done and how long it would take, and do nothing."""


class ScoreConfig(SurveyScoring):
    """Score the images of a survey and write Parquet score maps; only new and changed images are scored."""

    survey: Location
    """Folder or s3:// prefix of the images to score."""

    survey_name: str | None = None
    """Name of the survey in the output (default: the last part of its path)."""

    limit: int | None = Field(None, gt=0)
    """Score at most so many of the images that are left to do."""
