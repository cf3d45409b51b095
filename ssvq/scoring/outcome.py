"""What the writing stage returns for each part of an image."""

from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from ssvq.imagery.units import ImagePart
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scores.schema import LEDGER

OUTCOME_STRUCT = pa.struct(
    [
        ("part", pa.string()),
        ("tiles", pa.int32()),
        ("ledger", pa.struct(list(LEDGER))),
        ("table", pa.large_binary()),
        ("storage_error", pa.string()),
        ("read_seconds", pa.float64()),
        ("score_seconds", pa.float64()),
        ("write_seconds", pa.float64()),
    ]
)
WRITTEN = pa.schema([("outcomes", pa.list_(OUTCOME_STRUCT))])
"""The outcome of each part of a SCORED row."""


@dataclass(frozen=True, kw_only=True)
class PartOutcome:
    """What happened to a part of an image. There are four cases:

    - The part is a whole image, and its object was written: `ledger` is its row.
    - The part belongs to a larger image: `ledger` is the row of the part, `table` its SCORE_MAP rows as Parquet.
    - The source changed while it was read: `ledger` is None.
    - The object cannot be written: `storage_error` says why.

    `tiles` counts the planned tiles. The seconds are those of each stage.
    """

    part: ImagePart
    tiles: int
    ledger: LedgerRow | None = None
    table: bytes | None = None
    storage_error: str | None = None
    read_seconds: float = 0.0
    score_seconds: float = 0.0
    write_seconds: float = 0.0

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The outcome from a value of OUTCOME_STRUCT."""
        ledger = None if row["ledger"] is None else LedgerRow.from_dict(row["ledger"])
        return cls(**row | {"part": ImagePart.from_json(row["part"]), "ledger": ledger})

    def to_dict(self) -> dict[str, Any]:
        """The outcome as a value of OUTCOME_STRUCT."""
        ledger = None if self.ledger is None else self.ledger.to_dict()
        return vars(self) | {"part": self.part.to_json(), "ledger": ledger}
