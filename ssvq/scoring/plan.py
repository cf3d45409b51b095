"""The plan of a scoring run: which images of a survey a model still has to score."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain, islice

from ssvq.errors import InputError
from ssvq.imagery.catalog import PassedOver, SourceImage, iter_images
from ssvq.imagery.grid import Tiling
from ssvq.io import storage
from ssvq.methods.build import read_bundle
from ssvq.model.description import Bundle
from ssvq.scores.layout import Partition, check_survey_name
from ssvq.scores.ledger import (
    PartitionState,
    check_survey_root,
    done_test,
    no_longer_there,
    passed_over_before,
    read_ledger,
    read_state,
)
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scoring.settings import ScoreConfig

LOOK_AHEAD = 10_000  # the first images to score are listed before scoring starts; the others during it


class ScorePlan:
    """The images of a survey to score, in order of their paths. They are listed while scoring runs.

    Counts of what has been listed so far: `images` match the patterns; `left` of them are not done; `to_score` of those
    belong to this run. `passed_over`: pictures that are not read. `is_listed`: whether the listing is complete.
    """

    def __init__(
        self, config: ScoreConfig, bundle: Bundle, tiling: Tiling, partition: Partition, state: PartitionState
    ) -> None:
        self.config, self.bundle, self.tiling, self.partition = config, bundle, tiling, partition
        self.images = self.left = self.to_score = 0
        self.is_listed = False
        self._state = state
        self.run_number = state.next_run
        self.passed_over: list[PassedOver] = []
        self._there: set[str] = set()
        self._listing = self._not_done()
        self._listed_ahead = list(islice(self._listing, LOOK_AHEAD))

    def todo(self) -> Iterator[SourceImage]:
        """The images to score. Call it once. Raises InputError if the rest of the survey cannot be listed."""
        return chain(self._listed_ahead, self._listing)

    @property
    def removed(self) -> dict[str, LedgerRow | None]:
        """Images to prune, as `ledger.no_longer_there` gives them. Known once the survey is listed."""
        if not (self.config.prune and self.is_listed):
            return {}
        return no_longer_there(self._there | {other.image_id for other in self.passed_over}, self._state)

    def newly_passed_over(self) -> list[PassedOver]:
        """Pictures that are passed over and not yet in the ledger as such. Known once the survey is listed."""
        known = passed_over_before(self._state)
        return [other for other in self.passed_over if (other.image_id, other.fingerprint) not in known]

    @property
    def has_work(self) -> bool:
        """Whether there is anything to score or to prune."""
        return bool(self._listed_ahead or self.removed)

    def __str__(self) -> str:
        at_least = "" if self.is_listed else "at least "
        others = f", {at_least}{len(self.passed_over)} more pictures passed over" if self.passed_over else ""
        return (
            f"survey {self.partition.survey!r}: {at_least}{self.images} images, {self.images - self.left} done, "
            f"{at_least}{self.to_score} to score{others}"
        )

    def _not_done(self) -> Iterator[SourceImage]:
        config, is_done = self.config, done_test(self._state, retry_failed=self.config.retry_failed)
        listed = 0
        for listed, image in enumerate(list_survey(config, self.passed_over), 1):  # noqa: B007 - how many, afterwards
            if config.prune:
                self._there.add(image.image_id)
            if not _chosen(image, config):
                continue
            self.images += 1
            if is_done(image):
                continue
            self.left += 1
            if config.limit is None or self.to_score < config.limit:
                self.to_score += 1
                yield image
        if not self.images:
            raise InputError(f"--include and --exclude leave none of the {listed} images of --survey {config.survey}")
        self.is_listed = True


def plan_scoring(config: ScoreConfig, bundle: Bundle | None = None) -> ScorePlan:
    """Plan a run from the survey, the ledger and the model's description. Writes nothing.

    `bundle`: the description, if the caller has read it.

    Raises InputError for wrong input.
    """
    bundle = bundle or read_bundle(config.model)
    tiling = _tiling(bundle.preprocessing.tiling, config.stride)
    survey = check_survey_name(config.survey_name or storage.base_name(config.survey))
    partition = Partition(config.out, survey, bundle.model_id, tiling.tiling_id)
    ledger = read_ledger(config.out, survey)
    check_survey_root(ledger, survey, config.survey)
    return ScorePlan(config, bundle, tiling, partition, read_state(ledger, partition))


def list_survey(config: ScoreConfig, passed_over: list[PassedOver] | None = None) -> Iterator[SourceImage]:
    """Images of the survey as they are listed, without those in the output, which may be a folder inside the survey.

    `passed_over`: as in `iter_images`. Raises InputError if there is no image.
    """
    inside = config.out.rstrip("/") + "/"
    found = False
    for image in iter_images(config.survey, "--survey", config.drivers, passed_over):
        if not image.uri.startswith(inside):
            found = True
            yield image
    if not found:
        raise InputError(f"--survey {config.survey} holds no image outside --out {config.out}")


def _tiling(trained: Tiling, stride: int | None) -> Tiling:
    if stride is None:
        return trained
    if trained.whole:
        raise InputError("--stride: this model takes images whole, there are no tiles to overlap")
    if stride > trained.tile_size:
        raise InputError(f"--stride {stride} exceeds the model's tile size {trained.tile_size}: pixels would be missed")
    return Tiling(tile_size=trained.tile_size, stride=stride)


def _chosen(image: SourceImage, config: ScoreConfig) -> bool:
    def matches(patterns: list[str] | None) -> bool:
        return any(fnmatchcase(image.path, pattern) for pattern in patterns or [])

    return (config.include is None or matches(config.include)) and not matches(config.exclude)
