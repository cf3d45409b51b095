"""What people decided about findings: immutable segments beside the table, which survive it.

Each file of a report page becomes one segment, `decisions/<survey>/<time>-<digest>.parquet`. Nothing is ever changed or
removed: the latest decision about a region counts, and earlier ones stay. The name is a digest of the content, so a
file that is taken twice is one segment.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import shapely
from shapely.geometry.base import BaseGeometry

from ssvq.errors import InputError, reason_of
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError
from ssvq.scores.findings import STATES, State
from ssvq.scores.layout import decisions_folder
from ssvq.scores.schema import TIME

DECISIONS = pa.schema(
    [
        ("survey", pa.string()),
        ("image_uri", pa.string()),
        ("image_id", pa.string()),
        ("fingerprint", pa.string()),
        ("model_id", pa.string()),
        ("tiling_id", pa.string()),
        ("finding_id", pa.string()),
        ("state", pa.string()),
        ("decided_by", pa.string()),
        ("decided_at", TIME),
        ("note", pa.string()),
        ("outline", pa.binary()),
    ]
)
"""A row for each decision. fingerprint: of the image that the person saw. state: one of STATES; `new` withdraws an
earlier decision. outline: the region, WKB in pixels of the stored raster.
"""


@dataclass(frozen=True)
class Decision:
    """A person's decision about a region of one version of an image. `region`: in pixels of the stored raster."""

    survey: str
    image_uri: str
    image_id: str
    fingerprint: str
    model_id: str
    tiling_id: str
    finding_id: str
    state: State
    decided_by: str
    decided_at: datetime
    note: str | None
    region: BaseGeometry

    @property
    def version(self) -> str:
        """The version of the image file itself: its fingerprint without those of the files beside it."""
        return version_of(self.fingerprint)

    def row(self) -> dict[str, object]:
        """A row of DECISIONS."""
        fields = {name: getattr(self, name) for name in DECISIONS.names if name != "outline"}
        return fields | {"outline": shapely.to_wkb(self.region)}


def version_of(fingerprint: str) -> str:
    """The part of a fingerprint that changes with the image's pixels. A world file beside it is another part."""
    return fingerprint.split("+")[0]


def in_order(decisions: Iterable[Decision]) -> list[Decision]:
    """Decisions from the earliest to the latest, in the same order on every machine."""
    return sorted(decisions, key=lambda one: (one.decided_at, STATES.index(one.state), one.decided_by, one.finding_id))


def put_decisions(scores: str, survey: str, decisions: Sequence[Decision]) -> str:
    """Write decisions, at least one, as a segment. Returns its address. Raises InputError if it cannot be written."""
    ordered = in_order(decisions)
    rows = [one.row() for one in ordered]
    described = [[value.hex() if isinstance(value, bytes) else str(value) for value in row.values()] for row in rows]
    digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    name = f"{ordered[-1].decided_at:%Y%m%dT%H%M%SZ}-{digest}.parquet"
    address = storage.join(decisions_folder(scores, survey), name)
    try:
        parquet.put(address, pa.Table.from_pylist(rows, DECISIONS))
    except storage.StorageError as error:
        raise InputError(f"{address} cannot be written: {reason_of(error)}") from None
    return address


def read_decisions(scores: str, survey: str) -> list[Decision]:
    """All decisions on a survey, from the earliest to the latest.

    Raises InputError for a damaged segment: a lost decision must not look like one that was never made.
    """
    folder = decisions_folder(scores, survey)
    found: list[Decision] = []
    for info in storage.list_files(folder):
        if info.path.endswith(".parquet"):
            found += _read_segment(storage.join(folder, info.path))
    return in_order(found)


def _read_segment(address: str) -> list[Decision]:
    try:
        table = parquet.read(address, schema=DECISIONS)
        rows = table.drop_columns("outline").to_pylist()
        regions = shapely.from_wkb(table["outline"].to_pylist())
        if any(row["state"] not in STATES or row["decided_at"] is None for row in rows) or None in list(regions):
            raise DamagedError("a decision lacks its state, time or region")
    except storage.StorageError as error:
        raise InputError(f"{address} cannot be read: {reason_of(error)}") from None
    except (DamagedError, shapely.errors.ShapelyError) as error:
        raise InputError(
            f"{address} is damaged ({reason_of(error)}): restore it, or remove it and take the page's file again "
            "by `ssvq label --from`"
        ) from None
    return [Decision(**row, region=region) for row, region in zip(rows, regions, strict=True)]
