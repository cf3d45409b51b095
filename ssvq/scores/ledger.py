"""The ledger: one row for each image and run, in immutable segments that are written after the objects they describe.

The state of an image is its latest row. An image is done if that row says `scored`, the source still has the row's
fingerprint, and the object exists in the version of the row. This repairs a crash between object and row, a lost
object, and an older job that overwrote a newer result.
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
"""Surveys by address and version of ledger segments that this process has read: the latest SEGMENTS_KNOWN, some 20 MB.
Segments never change, so planning many surveys of one output reads each segment about once.
"""


class LedgerWriter:
    """Collects rows and writes segments of at most `rows_in_segment`. Use it as a context manager, so that no row is
    lost.
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
        """Add the row of an image whose object has been written."""
        self.rows.append(row)
        if len(self.rows) >= self.rows_in_segment or time.monotonic() - self.last > SECONDS_BETWEEN_SEGMENTS:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows."""
        if self.rows:
            name = f"{self.run_id}-{self.segments:05d}.parquet"
            address = storage.join(images_folder(self.out), name)
            parquet.put(address, to_table(self.rows), staging_folder(self.out))
            self.segments += 1
            self.rows = []
        self.last = time.monotonic()


def read_ledger(out: str, survey: str) -> pa.Table:
    """All rows of a survey, over all runs, models and tilings.

    Rows are dropped if their image_id, which names an object, would lead to another folder.
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
            # Segment by segment: rows of all surveys are never in memory at once.
            own.append(rows.filter(pc.and_(pc.equal(rows["survey"], survey), plain)))
    return pa.concat_tables(own)


def _read_segment(address: str) -> pa.Table:
    try:
        return parquet.read(address, schema=LEDGER, optional=LEDGER.names)  # earlier versions have fewer columns
    except DamagedError as error:
        raise InputError(f"ledger segment {address} is damaged ({error}); remove it and score again") from None


def check_survey_root(ledger: pa.Table, survey: str, root: str) -> None:
    """Raises InputError if the name belongs to a survey with another root, since the two would mix."""
    roots = set(ledger["survey_root"].to_pylist()) - {root}
    if roots:
        raise InputError(
            f"survey {survey!r} of this output has the root {sorted(roots)[0]}, not {root}; give another --survey-name"
        )


def latest_rows(ledger: pa.Table, partition: Partition) -> pa.Table:
    """The latest row, by LATEST, of each image of a partition."""
    here = pc.and_(pc.equal(ledger["model_id"], partition.model_id), pc.equal(ledger["tiling_id"], partition.tiling_id))
    rows = ledger.filter(here)
    # Rows of earlier versions have no run number and come first. Versions of pyarrow sort nulls differently.
    keys = rows.set_column(rows.column_names.index("run_number"), "run_number", pc.fill_null(rows["run_number"], 0))
    rows = rows.take(pc.sort_indices(keys, [(name, "ascending") for name in LATEST]))
    last = {image_id: index for index, image_id in enumerate(rows["image_id"].to_pylist())}
    return rows.take(pa.array(last.values(), pa.int64()))


@dataclass(frozen=True)
class PartitionState:
    """The state of a partition. `latest`: the latest row of each image. `versions`: versions of the existing objects,
    by image_id. `next_run`: number for a run that begins now.
    """

    latest: pa.Table
    versions: dict[str, str]
    next_run: int = 1


def read_state(ledger: pa.Table, partition: Partition) -> PartitionState:
    """The state of a partition, from the ledger rows and a listing of its objects."""
    next_run = 1 + (pc.max(ledger["run_number"]).as_py() or 0)
    return PartitionState(latest_rows(ledger, partition), partition.versions(), next_run)


def not_done(images: Iterable[SourceImage], state: PartitionState, *, retry_failed: bool = True) -> list[SourceImage]:
    """Images that still have to be scored; failed ones only with `retry_failed`."""
    is_done = done_test(state, retry_failed=retry_failed)
    return [image for image in images if not is_done(image)]


def done_test(state: PartitionState, *, retry_failed: bool = True) -> Callable[[SourceImage], bool]:
    """A function that tells whether an image is done, from the ledger and the listing of objects."""
    columns = (state.latest[name].to_pylist() for name in ("image_id", "status", "fingerprint", "object_version"))
    latest = {image_id: known for image_id, *known in zip(*columns, strict=True)}
    final = ("scored",) if retry_failed else ("scored", "failed")

    def is_done(image: SourceImage) -> bool:
        object_version = state.versions.get(image.image_id)
        status, *seen = latest.get(image.image_id, [None])
        return object_version is not None and status in final and seen == [image.fingerprint, object_version]

    return is_done


def passed_over_before(state: PartitionState) -> set[tuple[str, str]]:
    """image_id and fingerprint of pictures that the latest row calls `passed over`."""
    rows = state.latest.filter(pc.equal(state.latest["status"], PASSED_OVER))
    return set(zip(rows["image_id"].to_pylist(), rows["fingerprint"].to_pylist(), strict=True))


def no_longer_there(there: AbstractSet[str], state: PartitionState) -> dict[str, LedgerRow | None]:
    """Images of a partition that are not `there` in the survey and not pruned yet, by image_id, with their latest row.

    The row is None if only the object exists, because its run was killed between writing the two.
    """
    known: dict[str, LedgerRow | None] = dict.fromkeys(state.versions)
    known |= {row.image_id: row for row in LedgerRow.from_table(state.latest) if row.status != "removed"}
    return {image_id: row for image_id, row in known.items() if image_id not in there}


def prune(image_id: str, row: LedgerRow | None, partition: Partition, run_id: str, run_number: int) -> LedgerRow | None:
    """Remove the object of an image that is no longer in its survey. Returns the ledger row for it, if the image had a
    row.

    The object goes first. After a crash between the two steps the row still says `scored`, and the image is pruned
    again.
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
