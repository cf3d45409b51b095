"""Rows from the columns that a test cares about; the others are null."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ssvq.imagery.grid import Tiling
from ssvq.scores.findings import FINDINGS, Finding
from ssvq.scores.ledger_row import ImageRow, LedgerRow
from ssvq.scores.schema import LEDGER
from ssvq.scores.score_map import ScoreMap


def row_of(columns: Mapping[str, Any], **more: Any) -> LedgerRow:
    """A row of the ledger."""
    return LedgerRow.from_dict(dict.fromkeys(LEDGER.names) | dict(columns) | more)


def image_of(columns: Mapping[str, Any]) -> ImageRow:
    """A row of a scored image."""
    return ImageRow.from_dict(dict.fromkeys(LEDGER.names) | dict(columns))


def finding_of(columns: Mapping[str, Any]) -> Finding:
    """A finding."""
    return Finding(**dict.fromkeys(FINDINGS.names) | dict(columns))


def score_map_of(rows: Sequence[Mapping[str, Any]]) -> ScoreMap:
    """The score map of tiles with the columns tiling_id, x, y, width, height, score and score_map (rows, cols)."""
    places = (np.array([row[name] for row in rows]) for name in ("x", "y", "width", "height", "score"))
    maps = None if rows[0]["score_map"] is None else np.array([row["score_map"] for row in rows])
    return ScoreMap(Tiling.from_id(rows[0]["tiling_id"]), *places, maps)


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema."""
    return pa.Table.from_pylist(list(rows), schema)
