"""Outputs written as a scoring run writes them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ssvq.io import parquet, storage
from ssvq.scores.layout import Partition
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import SCORE_MAP
from tests.support.rows import row_of, to_table

MAP = [[np.float16(1.5), np.float16("nan")]]


def write_output(out: Path, survey: str = "s", images: int = 2, tiles: int = 3, status: str = "scored") -> Path:
    """Score maps and a ledger as of a finished run."""
    partition = Partition(str(out), survey, "m", "32-32-shift")
    with LedgerWriter(str(out), f"run-{survey}") as ledger:
        for i in range(images):
            rows: list[dict[str, Any]] = [
                {"survey": survey, "image_uri": f"/{survey}/{i}.png", "image_id": f"{survey}{i}", "score": 10.0 * i + t}
                | {"score_map": MAP, "tile_id": f"{survey}{i}-{t}", "geometry": b"\x01"}
                for t in range(tiles)
            ]
            storage.put(partition.score_map(f"{survey}{i}"), parquet.encode(to_table(rows, SCORE_MAP)))
            ledger.add(row_of(ledger_entry(survey, i, status)))
    return out


def ledger_entry(survey: str, image: int, status: str, minutes: int = 0) -> dict[str, Any]:
    """A ledger row."""
    return {
        "survey": survey,
        "image_id": f"{survey}{image}",
        "image_uri": f"/{survey}/{image}.png",
        "model_id": "m",
        "tiling_id": "32-32-shift",
        "run_id": f"run{minutes}",
        "status": status,
        "recorded_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes),
        "run_number": 1,
    }
