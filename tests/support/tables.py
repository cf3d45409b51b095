"""Tables of scored tiles, made in code."""

from typing import Any

import numpy as np
import pyarrow as pa

from ssvq.evaluation.collect import TILES
from ssvq.model.calibration import ColumnCalibration, calibrate


def tile_table(images: int = 12, each: int = 30, seed: int = 0, **changes: Any) -> pa.Table:
    """Tiles, alike within an image, of which a third is anomalous with one of two defects."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), each)
    fraction = np.where(rng.random(len(image)) < 0.5, rng.random(len(image)), 0).astype(np.float32)
    anomalous = fraction >= 0.5
    scores = rng.normal(size=images)[image] + rng.normal(size=len(image)) + 2 * anomalous + 10
    redness = rng.normal(size=len(image)) + 0.5 * anomalous
    defects = np.where(rng.random(len(image)) < 0.3, "crack", "stain")
    columns: dict[str, Any] = {
        "image": [f"{i}.png" for i in image],
        "group": [None] * len(image),
        **{name: np.zeros(len(image), np.int32) for name in ("x", "y", "width", "height")},
        "anomalous_fraction": fraction,
        "anomalous": anomalous,
        "defect": [name if share else None for name, share in zip(defects, fraction, strict=True)],
        "score": scores.astype(np.float32),
        "score_worst": (2 * scores).astype(np.float32),
        "redness": redness.astype(np.float32),
        "redness_p90": (redness + rng.normal(size=len(image))).astype(np.float32),
    }
    return pa.table(columns | changes, TILES)


def calibration() -> ColumnCalibration:
    """Of scores as the tiles of `tile_table` have them."""
    tiles = tile_table(seed=100)
    return calibrate(tiles["score"].to_numpy(), tiles["anomalous"].to_numpy())
