"""The score map of an image, by column."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.imagery.grid import Tiling

COLUMNS = ("tiling_id", "x", "y", "width", "height", "score", "threshold", "score_map")
"""Columns of SCORE_MAP that `ScoreMap.from_table` reads."""


@dataclass(frozen=True)
class ScoreMap:
    """The n scored tiles of one image.

    x, y, width, height: int (n,), pixels of the stored raster. score: float (n,). cells: float (n, rows, cols), the
    pooled cell distances, or None for a method without cells. threshold: of the score.
    """

    tiling: Tiling
    x: NDArray[np.integer]
    y: NDArray[np.integer]
    width: NDArray[np.integer]
    height: NDArray[np.integer]
    score: NDArray[np.floating]
    cells: NDArray[np.floating] | None
    threshold: float = math.nan

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """The score map in a table with the columns COLUMNS and a row or more."""
        maps = table["score_map"].combine_chunks()
        if maps.null_count:
            cells = None
        else:  # the maps of a tiling have one size: as one array, not millions of Python numbers
            values = maps.flatten().flatten().to_numpy(zero_copy_only=False)
            cells = values.reshape(len(table), len(maps[0]), -1)
        x, y, width, height, score = (table[name].to_numpy() for name in ("x", "y", "width", "height", "score"))
        tiling, threshold = (table[name][0].as_py() for name in ("tiling_id", "threshold"))
        return cls(Tiling.from_id(tiling), x, y, width, height, score, cells, float(threshold))
