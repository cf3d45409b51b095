"""Publishes and reports a survey after its scores have changed."""

from dataclasses import dataclass

from ssvq.errors import ExitCode
from ssvq.io import storage
from ssvq.nightly.settings import NightlyConfig
from ssvq.results.publish import publish
from ssvq.results.report.job import report
from ssvq.results.report.settings import ReportConfig
from ssvq.results.settings import PublishConfig
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition, images_folder
from ssvq.scores.partitions import PartitionInfo, is_published

TRIES = 3  # times to publish and report: another job may score images of the survey meanwhile

_SINCE = """
    SELECT count(*) FILTER (status = 'scored') AS scored, count(*) FILTER (status = 'failed') AS failed,
           coalesce(sum(tiles), 0)::BIGINT AS tiles, coalesce(sum(anomalous_tiles), 0)::BIGINT AS anomalous_tiles
    FROM images WHERE survey = $survey AND model_id = $model_id AND tiling_id = $tiling_id
                      AND NOT list_contains($runs, run_id)
"""


@dataclass(frozen=True)
class Known:
    """What the ledger of an output says: the state of its partitions, and its runs."""

    partitions: dict[Partition, PartitionInfo]
    runs: list[str]


@dataclass(frozen=True)
class Counts:
    """Images and tiles of a partition that some runs added to the ledger."""

    scored: int = 0
    failed: int = 0
    tiles: int = 0
    anomalous_tiles: int = 0


def publish_and_report(config: NightlyConfig, partition: Partition) -> tuple[str | None, ExitCode]:
    """Publish the scores and write the page, unless both are up to date. Returns the address of the page.

    If two jobs run at once, the one that ends last checks the ledger after both have written, so that its result is the
    final one.
    """
    page = config.report(partition.survey)
    code = ExitCode.DONE
    told: str | None = None
    for _ in range(TRIES):
        info = read_known(partition.out).partitions.get(partition)
        if info is None or not info.images:
            return None, code
        if info.state == told or (told is None and is_told(info, page)):
            break
        scores, survey, model_id = partition.out, partition.survey, partition.model_id
        publish(PublishConfig(scores=scores, survey=survey, model_id=model_id))
        code = report(ReportConfig(scores=scores, survey=survey, model_id=model_id, out=page))
        told = info.state
    return page, code


def is_told(info: PartitionInfo | None, page: str) -> bool:
    """Whether published file and page are up to date; true if there is nothing to publish.

    The published file must match the ledger, and the page must be newer. Both times come from the storage: no clock of
    this machine matters.
    """
    if info is None or not info.images:
        return True
    if not is_published(info):
        return False
    try:
        published, made = (fs.modified(path) for fs, path in map(storage.filesystem, (info.partition.published, page)))
    except FileNotFoundError:
        return False
    return bool(made >= published)


def read_known(out: str) -> Known:
    if next(storage.list_files(images_folder(out)), None) is None:
        return Known({}, [])
    with Scores(out) as scores:
        runs = scores.sql("SELECT DISTINCT run_id FROM images")["run_id"].to_pylist()
        return Known({info.partition: info for info in scores.partitions()}, runs)


def count_since(known: Known, partition: Partition) -> Counts:
    """Counts of a partition in the ledger, from runs that were not known earlier."""
    with Scores(partition.out) as scores:
        (counts,) = scores.sql(_SINCE, {**partition.identity, "runs": known.runs}).to_pylist()
    return Counts(**counts)
