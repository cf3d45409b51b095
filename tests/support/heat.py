"""Score maps of images with any heat, as a scoring run writes them."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from ssvq.io import parquet, storage
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import SCORE_MAP
from tests.support.rows import row_of, to_table

MODEL = "0123456789abcdef"
TILE, CELL = 64, 4  # pixels on a side
CELLS = TILE // CELL
COLD, HOT = 0.5, 2.0  # cell distances; the threshold is 1


def heat_of_mask(mask: NDArray[np.bool_], cell: int = CELL) -> NDArray[np.float64]:
    """Cell distances (rows, cols) of a perfect model: HOT where half of a cell or more is in a mask (height, width)."""
    height, width = mask.shape
    rows, cols = math.ceil(height / cell), math.ceil(width / cell)
    padded = np.pad(mask.astype(float), ((0, rows * cell - height), (0, cols * cell - width)), "edge")
    share = padded.reshape(rows, cell, cols, cell).mean((1, 3))
    return np.where(share >= 0.5, HOT, COLD)


def write_heat(
    out: Path,
    survey: str,
    name: str,
    heat: NDArray[np.float64],
    *,
    uri: str | None = None,
    place: tuple[str, Affine] | None = None,
    position: tuple[float, float] | None = None,
    fingerprint: str = "1-2",
    model: str = MODEL,
    tiling: str = f"{TILE}-{TILE}-shift",
    run_number: int = 1,
    size: tuple[int, int] | None = None,
) -> None:
    """One image of cells of CELL pixels; NaN where nothing was scored. `position`: latitude and longitude; `size`:
    width and height, where they are no whole number of cells.
    """
    described = {"preprocessing": {"cell": CELL}, "calibration": {"normal_scores": [1.0], "decides": "score"}}
    storage.put_text(model_file(str(out), model), json.dumps(described))
    image_id = name.split(".")[0]
    identity = {"survey": survey, "model_id": model, "tiling_id": tiling, "image_id": image_id}
    identity |= {"image_uri": uri or f"/{survey}/{name}", "fingerprint": fingerprint, "run_id": f"run-{run_number}"}
    rows = [
        {**identity, "tile_id": f"{image_id}-{row}-{col}", "row": row, "col": col}
        | {"x": col * TILE, "y": row * TILE, "width": TILE, "height": TILE, "valid_fraction": 1.0}
        | _scores(heat[row * CELLS : (row + 1) * CELLS, col * CELLS : (col + 1) * CELLS])
        for row in range(math.ceil(heat.shape[0] / CELLS))
        for col in range(math.ceil(heat.shape[1] / CELLS))
    ]
    partition = Partition(str(out), survey, model, tiling)
    parquet.put(partition.score_map(image_id), to_table(rows, SCORE_MAP))
    width, height = size or (heat.shape[1] * CELL, heat.shape[0] * CELL)
    with LedgerWriter(str(out), f"run-{survey}-{model}-{image_id}-{run_number}") as ledger:
        ledger.add(
            row_of(
                {**identity, "status": "scored", "tiles": len(rows), "skipped_tiles": 0, "run_number": run_number}
                | {"recorded_at": datetime(2026, 1, 1, tzinfo=UTC), "image_width": width, "image_height": height}
                | {"driver": "PNG", "crs": place[0] if place else None}
                | {"transform": list(place[1])[:6] if place else None, "bands": 3, "dtype": "uint8"}
                | dict(zip(("latitude", "longitude"), position or (None, None), strict=True))
            )
        )


def _scores(cells: NDArray[np.float64]) -> dict[str, Any]:
    whole = np.full((CELLS, CELLS), np.nan)
    whole[: cells.shape[0], : cells.shape[1]] = cells
    known = whole[np.isfinite(whole)]
    score = float(np.sqrt((known**2).mean()) * CELLS) if known.size else math.nan
    return {
        "score": score,
        "score_max": float(known.max()) if known.size else math.nan,
        "p_value": 0.25,
        "threshold": float(CELLS),
        "is_anomalous": score >= CELLS,
        "score_map": whole.tolist(),
    }
