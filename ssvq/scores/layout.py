"""Where things lie in an output folder. Nothing but Parquet lies under `tiles/` and `images/`.

tiles/<survey>/<model_id>/<tiling_id>/<image_id>.parquet    score maps, one object for an image
images/<run_id>-<number>.parquet                            ledger: immutable segments
models/<model_id>.json                                      descriptions of the models
runs/<run_id>.json                                          configuration and summary of each run
published/<survey>/<model_id>/<tiling_id>.parquet           score maps of a partition as one file, for analysts
findings/<survey>/<model_id>/<tiling_id>.parquet            findings of a partition, made anew by each `ssvq findings`
gone/<survey>/<model_id>/<tiling_id>.parquet                what an earlier survey found and is gone, with --previous
decisions/<survey>/<time>-<digest>.parquet                  what people decided about findings: immutable segments
labels/<survey>.parquet                                     labels that `ssvq label` wrote, without another --out
staging/                                                    unfinished puts; safe to delete when no job runs
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from ssvq.errors import InputError
from ssvq.io import storage

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Partition:
    """One survey, scored by one model with one tiling, in one output."""

    out: str
    survey: str
    model_id: str
    tiling_id: str

    @property
    def identity(self) -> dict[str, str]:
        """Survey, model_id and tiling_id, as the columns of a row have them."""
        return {"survey": self.survey, "model_id": self.model_id, "tiling_id": self.tiling_id}

    @property
    def tiles(self) -> str:
        """Folder of its score maps."""
        return storage.join(self.out, "tiles", self.survey, self.model_id, self.tiling_id)

    @property
    def published(self) -> str:
        """All its score maps as one file."""
        return storage.join(self.out, "published", self.survey, self.model_id, self.tiling_id + SUFFIX)

    @property
    def findings(self) -> str:
        """The table of findings."""
        return storage.join(findings_folder(self.out), self.survey, self.model_id, self.tiling_id + SUFFIX)

    @property
    def gone(self) -> str:
        """The table of earlier findings whose place shows nothing any more."""
        return storage.join(gone_folder(self.out), self.survey, self.model_id, self.tiling_id + SUFFIX)

    def score_map(self, image_id: str) -> str:
        """The one object of an image."""
        return storage.join(self.tiles, image_id + SUFFIX)

    def versions(self) -> dict[str, str]:
        """The version of each score map in storage, by image_id."""
        found = storage.list_files(self.tiles)
        return {info.path.removesuffix(SUFFIX): info.version for info in found if info.path.endswith(SUFFIX)}


def images_folder(out: str) -> str:
    """Folder of the ledger segments."""
    return storage.join(out, "images")


def findings_folder(out: str) -> str:
    """Folder of the tables of findings."""
    return storage.join(out, "findings")


def gone_folder(out: str) -> str:
    """Folder of the tables of gone findings."""
    return storage.join(out, "gone")


def partitions_with_findings(out: str, survey: str) -> list[Partition]:
    """The partitions of a survey that have a table of findings."""
    folder = storage.join(findings_folder(out), survey)
    names = [info.path.removesuffix(SUFFIX) for info in storage.list_files(folder) if info.path.endswith(SUFFIX)]
    return [Partition(out, survey, *name.split("/")) for name in names if name.count("/") == 1]


def decisions_folder(out: str, survey: str) -> str:
    """Folder of the decisions on a survey's findings."""
    return storage.join(out, "decisions", survey)


def labels_file(out: str, survey: str) -> str:
    """Default file for the labels of a survey's tiles."""
    return storage.join(out, "labels", survey + SUFFIX)


def staging_folder(out: str) -> str:
    """Folder of unfinished writes."""
    return storage.join(out, "staging")


def model_file(out: str, model_id: str) -> str:
    """The copy of a model's description."""
    return storage.join(out, "models", f"{model_id}.json")


def runs_folder(out: str) -> str:
    """Folder of run records. Their names begin with the time."""
    return storage.join(out, "runs")


def run_file(out: str, run_id: str) -> str:
    """The settings and summary of a run."""
    return storage.join(runs_folder(out), f"{run_id}.json")


def new_run_id() -> str:
    """A run name: start time in UTC and a few random digits, so that runs of one second differ."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def check_survey_name(name: str) -> str:
    """Returns the name. Raises InputError if it is not the plain name of a folder that every reader opens."""
    if not name or name[0] in "._" or re.search(r"[/\\=*?\[\]\x00-\x1f]", name):
        raise InputError(
            f"--survey-name {name!r} cannot name a folder of score maps: it must not be empty, start with . or _, "
            "or hold / \\ = * ? [ ]; give another --survey-name"
        )
    return name
