"""An output of four images, as a scoring run writes it, and `ssvq report` over it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ssvq.cli import main
from ssvq.io import parquet, storage
from ssvq.scores.layout import Partition, model_file, run_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import SCORE_MAP
from tests.support.images import write_image
from tests.support.rows import row_of, to_table

MODEL, TILING = "m" * 16, "32-32-shift"


THRESHOLD = 12.0


HOSTILE = "<script>alert('1')\"&--><!--.png"


NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def put_model(out: Path | str) -> None:
    calibration = {"threshold": THRESHOLD, "rule": "equal error rate", "normal_scores": [1.0, 2.0, 3.0, 12.0]}
    described = {"model_id": MODEL, "method": "ss-vq-vae", "preprocessing": {}, "calibration": calibration}
    storage.put_text(model_file(str(out), MODEL), json.dumps(described))
    run = {"run_id": "run-1", "config": {"note": "</script><b>"}, "summary": {"images": 4, "scored": 3}}
    storage.put_text(run_file(str(out), "run-1"), json.dumps(run))


def ledger_row(uri: str, image_id: str) -> dict[str, Any]:
    identity = {"survey": "s", "image_uri": uri, "image_id": image_id, "fingerprint": "f"}
    return identity | {"model_id": MODEL, "tiling_id": TILING, "run_id": "run-1", "run_number": 1, "recorded_at": NOW}


def put_scores(
    out: Path | str, uri: str, image_id: str, scores: Sequence[float], west: float | None = None
) -> dict[str, Any]:
    """The object of an image of one row of tiles, and its row of the ledger."""
    row = ledger_row(uri, image_id)
    cells = np.full((8, 8), 0.1)
    cells[:4] = 5
    tiles = []
    for i, score in enumerate(scores):
        tile = {"tile_id": f"{image_id}-0-{i}", "row": 0, "col": i, "x": 32 * i, "y": 0, "width": 32, "height": 32}
        tile |= {"score": score, "threshold": THRESHOLD, "p_value": 0.5, "is_anomalous": score >= THRESHOLD}
        if west is not None:
            tile["geometry"] = shapely.to_wkb(shapely.box(west + 0.001 * i, 47, west + 0.001 * (i + 1), 47.001))
        tiles.append(row | tile | {"scored_at": NOW, "score_map": cells.astype(np.float16).tolist()})
    partition = Partition(str(out), "s", MODEL, TILING)
    info = storage.put(partition.score_map(image_id), parquet.encode(to_table(tiles, SCORE_MAP)))
    size = {"image_width": 32 * max(1, len(scores)), "image_height": 32, "driver": "PNG"}
    return row | size | {"status": "scored", "tiles": len(scores), "object_version": info.version}


def write_survey_scores(tmp_path: Path) -> Path:
    """Three scored images, the worst with a hostile name and one on the map; and one that failed."""
    out = tmp_path / "scores"
    put_model(out)
    with LedgerWriter(str(out), "run-1") as ledger:
        for i, (name, scores) in enumerate(
            {"b.png": [1, 2, 12, 3], "c.png": [1, 1, 1, 2], HOSTILE: [5, 30, 20, 2]}.items()
        ):
            path = write_image(tmp_path / "photos" / name, np.full((32, 128, 3), 60 + 60 * i, np.uint8))
            ledger.add(row_of(put_scores(out, str(path), f"i{i}", scores, west=8.0 if i == 0 else None)))
        failed = {"status": "failed", "error_stage": "read", "error_message": "ends at <row> 7"}
        ledger.add(row_of(ledger_row(str(tmp_path / "photos" / "d.png"), "i9") | failed))
    return out


def report(out: Path | str, page: Path | str, *more: str) -> int:
    return main(["report", str(out), "--survey", "s", "--out", str(page), *more])
