"""The ledger: one row for each image and run, in immutable segments written after the objects they speak of.

The state of an image is its latest row. An image is done when that row says `scored`, the source still has the
row's fingerprint, and its object is there with the version that the row noted. This heals a crash between object and
row, an object that was lost, and an older job that overwrote a newer result.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from ssvq.errors import InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError
from ssvq.scores.layout import Partition, images_folder, staging_folder
from ssvq.scores.ledger_row import PASSED_OVER, LedgerRow, to_table
from ssvq.scores.schema import LATEST, LEDGER

ROWS_IN_SEGMENT = 500
SECONDS_BETWEEN_SEGMENTS = 20.0

SEGMENTS_KNOWN = 65_536

_surveys_in: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()
"""By address and version of a segment that this process has read, the surveys of its rows: of the latest
SEGMENTS_KNOWN, some 20 MB. A segment never changes, so that many surveys of one output are planned with hardly more
reads than one.
"""


class LedgerWriter:
    """Collects rows and puts a segment of at most `rows_in_segment` now and then; use as a context manager so that none
    is lost.
    """

    def __init__(self, out: str, run_id: str, *, rows_in_segment: int = ROWS_IN_SEGMENT) -> None:
        self.out, self.run_id, self.rows_in_segment = out, run_id, rows_in_segment
        self.rows: list[LedgerRow] = []
        self.segments = 0
        self.last = time.monotonic()

    def __enter__(self) -> "LedgerWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    def add(self, row: LedgerRow) -> None:
        """Note an image whose object has been put."""
        self.rows.append(row)
        if len(self.rows) >= self.rows_in_segment or time.monotonic() - self.last > SECONDS_BETWEEN_SEGMENTS:
            self.flush()

    def flush(self) -> None:
        """Put what has been collected."""
        if self.rows:
            name = f"{self.run_id}-{self.segments:05d}.parquet"
            address = storage.join(images_folder(self.out), name)
            parquet.put(address, to_table(self.rows), staging_folder(self.out))
            self.segments += 1
            self.rows = []
        self.last = time.monotonic()


def read_ledger(out: str, survey: str) -> pa.Table:
    """All rows of a survey, of all runs, models and tilings; none whose image_id, the name of an object, would lead to
    another folder.
    """
    folder = images_folder(out)
    segments = [(storage.join(folder, info.path), info.version) for info in storage.list_files(folder)]
    own = [LEDGER.empty_table()]
    for address, version in segments:
        if address.endswith(".parquet") and survey in _surveys_in.get((address, version), (survey,)):
            rows = _read_segment(address)
            _surveys_in[address, version] = frozenset(rows["survey"].unique().to_pylist())
            if len(_surveys_in) > SEGMENTS_KNOWN:
                _surveys_in.popitem(last=False)
            plain = pc.match_substring_regex(rows["image_id"], "^[^/]+$")
            # By segment: the rows of all surveys together are in memory at no time.
            own.append(rows.filter(pc.and_(pc.equal(rows["survey"], survey), plain)))
    return pa.concat_tables(own)


def _read_segment(address: str) -> pa.Table:
    try:
        return parquet.read(address, schema=LEDGER, optional=LEDGER.names)  # an earlier version has fewer columns
    except DamagedError as error:
        raise InputError(f"ledger segment {address} is damaged ({error}); remove it and score again") from None


def check_survey_root(ledger: pa.Table, survey: str, root: str) -> None:
    """Raises InputError when the name belongs to a survey with another root: two surveys would mix."""
    roots = set(ledger["survey_root"].to_pylist()) - {root}
    if roots:
        raise InputError(
            f"survey {survey!r} of this output has the root {sorted(roots)[0]}, not {root}; give another --survey-name"
        )


def latest_rows(ledger: pa.Table, partition: Partition) -> pa.Table:
    """The state of each image of a partition: its latest row, by LATEST."""
    here = pc.and_(pc.equal(ledger["model_id"], partition.model_id), pc.equal(ledger["tiling_id"], partition.tiling_id))
    rows = ledger.filter(here)
    # Rows of earlier versions have no number, and come first. Versions of pyarrow differ in how they sort nulls.
    keys = rows.set_column(rows.column_names.index("run_number"), "run_number", pc.fill_null(rows["run_number"], 0))
    rows = rows.take(pc.sort_indices(keys, [(name, "ascending") for name in LATEST]))
    last = {image_id: index for index, image_id in enumerate(rows["image_id"].to_pylist())}
    return rows.take(pa.array(last.values(), pa.int64()))


@dataclass(frozen=True)
class PartitionState:
    """What is known of a partition's images: `latest`, the latest row of each, and `versions` of the objects that are
    there, by image_id. `next_run`: number of a run of the survey that begins now.
    """

    latest: pa.Table
    versions: dict[str, str]
    next_run: int = 1


def read_state(ledger: pa.Table, partition: Partition) -> PartitionState:
    """The state of a partition, from the ledger's rows and a listing of its objects."""
    next_run = 1 + (pc.max(ledger["run_number"]).as_py() or 0)
    return PartitionState(latest_rows(ledger, partition), partition.versions(), next_run)


def not_done(images: Iterable[SourceImage], state: PartitionState, *, retry_failed: bool = True) -> list[SourceImage]:
    """The images that are still to be scored; those that failed are among them unless not `retry_failed`."""
    is_done = done_test(state, retry_failed=retry_failed)
    return [image for image in images if not is_done(image)]


def done_test(state: PartitionState, *, retry_failed: bool = True) -> Callable[[SourceImage], bool]:
    """Tells of an image whether it is done, by what the ledger and the listing of objects say."""
    columns = (state.latest[name].to_pylist() for name in ("image_id", "status", "fingerprint", "object_version"))
    latest = {image_id: known for image_id, *known in zip(*columns, strict=True)}
    final = ("scored",) if retry_failed else ("scored", "failed")

    def is_done(image: SourceImage) -> bool:
        object_version = state.versions.get(image.image_id)
        status, *seen = latest.get(image.image_id, [None])
        return object_version is not None and status in final and seen == [image.fingerprint, object_version]

    return is_done


def passed_over_before(state: PartitionState) -> set[tuple[str, str]]:
    """image_id and fingerprint of the pictures of which the latest row says that they were passed over."""
    rows = state.latest.filter(pc.equal(state.latest["status"], PASSED_OVER))
    return set(zip(rows["image_id"].to_pylist(), rows["fingerprint"].to_pylist(), strict=True))


def no_longer_there(there: AbstractSet[str], state: PartitionState) -> dict[str, LedgerRow | None]:
    """By image_id, the images of a partition that are not `there` in the survey, and not pruned yet: their latest
    row, or None for one of which there is only the object, since its run was killed between the two.
    """
    known: dict[str, LedgerRow | None] = dict.fromkeys(state.versions)
    known |= {row.image_id: row for row in LedgerRow.from_table(state.latest) if row.status != "removed"}
    return {image_id: row for image_id, row in known.items() if image_id not in there}


def prune(image_id: str, row: LedgerRow | None, partition: Partition, run_id: str, run_number: int) -> LedgerRow | None:
    """Remove the object of an image that is no longer in its survey. Returns the row that says so, if it had one.

    The object goes first: after a crash between the two the row still says `scored`, and the image is pruned again.
    """
    storage.remove(partition.score_map(image_id))
    if row is None:
        return None
    return replace(
        row,
        run_id=run_id,
        run_number=run_number,
        recorded_at=datetime.now(UTC),
        status="removed",
        tiles=0,
        skipped_tiles=0,
        anomalous_tiles=0,
        error_stage=None,
        error_message=None,
        object_version=None,
        object_bytes=0,
    )
