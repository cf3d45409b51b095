"""What a scoring job is about to do: which images of a survey, by which model, less what is done already."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ssvq import storage
from ssvq.config import ScoreConfig
from ssvq.errors import InputError
from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.grid import Tiling
from ssvq.methods import read_bundle
from ssvq.model.bundle import Bundle
from ssvq.scoring.layout import Partition, check_survey_name
from ssvq.scoring.ledger import check_survey_root, no_longer_there, not_done, read_ledger, read_state


@dataclass(frozen=True)
class ScorePlan:
    """`images` of the survey that the patterns choose; `left` of them, how many are not done; `todo`, which this run is
    to score; `removed`, the images to prune, as `ledger.no_longer_there` gives them.
    """

    bundle: Bundle
    tiling: Tiling
    partition: Partition
    images: list[SourceImage]
    left: int
    todo: list[SourceImage]
    removed: dict[str, dict[str, Any] | None]

    def __str__(self) -> str:
        images = len(self.images)
        done = images - self.left
        return f"survey {self.partition.survey!r}: {images} images, {done} done, {len(self.todo)} to score"


def plan_scoring(config: ScoreConfig) -> ScorePlan:
    """Look at the model, the survey and the ledger; nothing is written.

    Raises InputError for wrong input.
    """
    bundle = read_bundle(config.model)
    tiling = _tiling(bundle.preprocessing.tiling, config.stride)
    survey = check_survey_name(config.survey_name or storage.base_name(config.survey))
    partition = Partition(config.out, survey, bundle.model_id, tiling.tiling_id)
    listed = list_survey(config)
    images = [image for image in listed if _chosen(image, config)]
    if not images:
        raise InputError(f"--include and --exclude leave none of the {len(listed)} images of --survey {config.survey}")
    ledger = read_ledger(config.out, survey)
    check_survey_root(ledger, survey, config.survey)
    state = read_state(ledger, partition)
    todo = not_done(images, state, retry_failed=config.retry_failed)
    removed = no_longer_there(listed, state) if config.prune else {}
    return ScorePlan(bundle, tiling, partition, images, len(todo), todo[: config.limit], removed)


def list_survey(config: ScoreConfig) -> list[SourceImage]:
    """The images of the survey that do not lie in the output, which may be a folder within it.

    Raises InputError when there is none.
    """
    inside = config.out.rstrip("/") + "/"
    kept = [
        image for image in list_images(config.survey, "--survey", config.drivers) if not image.uri.startswith(inside)
    ]
    if not kept:
        raise InputError(f"--survey {config.survey} holds no image outside --out {config.out}")
    return kept


def _tiling(trained: Tiling, stride: int | None) -> Tiling:
    if stride is None:
        return trained
    if trained.whole:
        raise InputError("--stride: this model takes images whole, there are no tiles to overlap")
    if stride > trained.tile_size:
        raise InputError(f"--stride {stride} is over the model's tile size {trained.tile_size}: pixels would be missed")
    return Tiling(tile_size=trained.tile_size, stride=stride)


def _chosen(image: SourceImage, config: ScoreConfig) -> bool:
    def matches(patterns: list[str] | None) -> bool:
        return any(fnmatchcase(image.path, pattern) for pattern in patterns or [])

    return (config.include is None or matches(config.include)) and not matches(config.exclude)
