"""A row of the ledger: what happened to an image in a run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from ssvq.scores.layout import Partition
from ssvq.scores.schema import LEDGER

PASSED_OVER: Final = "passed over"
Status = Literal["scored", "failed", "removed", "passed over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A row of LEDGER; docs/reference/schema.md describes the columns. What the header of the image says is None where
    the header could not be read.
    """

    survey: str
    image_uri: str
    image_id: str
    fingerprint: str
    model_id: str
    tiling_id: str
    run_id: str
    recorded_at: datetime
    status: Status
    survey_root: str | None = None
    tiles: int = 0
    skipped_tiles: int = 0
    anomalous_tiles: int = 0
    error_stage: str | None = None
    error_message: str | None = None
    seconds: float | None = None
    bytes: int | None = None
    object_version: str | None = None
    object_bytes: int = 0
    image_width: int | None = None
    image_height: int | None = None
    bands: int | None = None
    dtype: str | None = None
    driver: str | None = None
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    orientation: int | None = None
    captured_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    decoder: str | None = None
    pages: int | None = None
    run_number: int | None = None
    gsd_estimate: float | None = None

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The row from its columns, as Arrow gives them."""
        transform = row["transform"]
        return cls(**row | {"transform": None if transform is None else tuple(transform)})

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Self]:
        """The rows of a table of the schema LEDGER."""
        return [cls.from_dict(row) for row in table.to_pylist()]

    def to_dict(self) -> dict[str, Any]:
        """The columns of the row, as Arrow takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def partition(self, out: str) -> Partition:
        """The partition of an output that the row belongs to."""
        return Partition(out, self.survey, self.model_id, self.tiling_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow(LedgerRow):
    """The row of a scored image, whose header is known."""

    image_width: int
    image_height: int
    bands: int
    dtype: str
    driver: str

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Self]:
        """The rows of the scored images in a table of the schema LEDGER."""
        return [cls.from_dict(row) for row in table.filter(pc.equal(table["status"], "scored")).to_pylist()]


def to_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """A table of the schema LEDGER."""
    return pa.table({name: [getattr(row, name) for row in rows] for name in LEDGER.names}, LEDGER)
