"""SCORED rows from what a test says of each part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ssvq.scoring.outcome import PartOutcome
from ssvq.scoring.rows import SCORED, ScoredPart, binary_of, list_of, one_row, scored_parts
from ssvq.scoring.writer import ScoringRun, tile_table, write_parts


def scored_table(parts: Sequence[dict[str, Any]]) -> pa.Table:
    """A SCORED row for each part: `part` (JSON), `read_seconds`, and `error_stage` and `error_message`, or `kept`,
    `valid_fraction`, `score`, `score_max`, `score_map`, `precision`, `score_seconds` and `decoder`.
    """
    return pa.concat_tables([SCORED.empty_table(), *map(_row, parts)])


def scored_part(part: dict[str, Any]) -> ScoredPart:
    """A part as its consumers see it."""
    (found,) = scored_parts(scored_table([part]))
    return found


def tile_rows(part: dict[str, Any], run: ScoringRun) -> list[dict[str, Any]]:
    """SCORE_MAP rows of a part."""
    rows: list[dict[str, Any]] = tile_table(scored_part(part), run).to_pylist()
    return rows


def outcomes_of(run: ScoringRun, *parts: dict[str, Any]) -> list[PartOutcome]:
    """What becomes of parts, by the writing stage."""
    rows = write_parts(scored_table(parts), run).to_pylist()
    return [PartOutcome.from_dict(outcome) for row in rows for outcome in row["outcomes"]]


def _row(part: dict[str, Any]) -> pa.Table:
    def strings(name: str) -> pa.Array:
        return list_of(pa.array([part.get(name)], pa.string()))

    def numbers(name: str, dtype: type[np.generic]) -> pa.Array:
        return list_of(np.array(part.get(name, []), dtype))

    score_map = part.get("score_map")
    columns = {
        "parts": strings("part"),
        "error_stages": strings("error_stage"),
        "error_messages": strings("error_message"),
        "read_seconds": list_of(np.array([part["read_seconds"]])),
        "tiles": list_of(np.array([len(part.get("kept", []))], np.int32)),
        "decoders": strings("decoder"),
        "kept": numbers("kept", np.int32),
        **{name: numbers(name, np.float32) for name in ("valid_fraction", "score", "score_max")},
        "score_worst": numbers("score_max", np.float32),
        "score_map": binary_of(None if score_map is None else np.array(score_map, np.float16)),
        "score_seconds": pa.array([part.get("score_seconds")], pa.float64()),
        "precision": pa.array([part.get("precision")], pa.string()),
    }
    return one_row(SCORED, columns)
