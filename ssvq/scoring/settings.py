"""Settings of commands that run a trained model: `ssvq score` and `ssvq evaluate`."""

from typing import Literal

from pydantic import Field, model_validator

from ssvq.runtime.settings import ImageJob
from ssvq.settings import Location, Output


class ScoringSettings(ImageJob):
    """How a trained model is run over tiles."""

    model: Location
    """Folder or s3:// prefix of the bundle."""

    batch_size: int | None = Field(None, gt=0)
    """Tiles in a batch (default: what suits the memory of the GPU); on a CPU at most 512x512 pixels for each core."""

    decode: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to decode JPEG: cpu, or gpu (the scorer's; needs ssvq[gpu]). auto is cpu. Other formats always use CPUs."""

    compile: bool = False
    """Compile the network with torch.compile: slower to start, faster on GPUs. No effect on the paper's encoder on a
    GPU, which has faster kernels of its own."""

    scorers: int | None = Field(None, gt=0)
    """Number of scorers (default: one for each GPU, or one for each node if there is no GPU)."""

    max_scorers: int | None = Field(None, gt=0)
    """Start with --scorers (or one), and add scorers up to this number while there is work, so that an autoscaling
    cluster grows."""

    gpus_per_scorer: float = Field(1, gt=0, le=1)
    """Share of a GPU for each scorer: with 0.5, two scorers share one."""

    @model_validator(mode="after")
    def _pool_grows(self) -> "ScoringSettings":
        if self.max_scorers is not None and self.max_scorers < (self.scorers or 1):
            raise ValueError(f"--max-scorers {self.max_scorers} is below --scorers {self.scorers}")
        return self


class SurveyScoring(ScoringSettings):
    """How surveys are scored."""

    out: Output
    """Folder or s3:// prefix of the score maps, shared by all surveys."""

    stride: int | None = Field(None, gt=0)
    """Pixels from one tile to the next; tiles overlap if it is less than the tile size (default: the tile size)."""

    include: list[str] | None = None
    """Score only images whose path in the survey matches one of these patterns, such as 'a/*.jpg' (default: all)."""

    exclude: list[str] | None = None
    """Skip images whose path in the survey matches one of these patterns; * matches / too."""

    retry_failed: bool = True
    """Try images again that failed in an earlier run, even if they have not changed."""

    prune: bool = False
    """Remove the scores of images that are no longer in the survey."""

    dry_run: bool = False
    """Print what would be done and how long it would take, and do nothing."""


class ScoreConfig(SurveyScoring):
    """Score the images of a survey and write Parquet score maps; only new and changed images are scored."""

    survey: Location
    """Folder or s3:// prefix of the images to score."""

    survey_name: str | None = None
    """Name of the survey in the output (default: the last part of its path)."""

    limit: int | None = Field(None, gt=0)
    """Largest number of images to score in this run."""
