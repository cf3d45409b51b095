"""From rows of tiles back to one map of an image: cell distances where they belong, overlaps averaged."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvq.imagery.grid import CELL


@dataclass(frozen=True)
class HeatMap:
    """`values`: float32 (rows, cols), NaN where nothing was scored. Cell (i, j) covers the source's pixels
    from (i, j) x `pitch`, and `pitch` of them each way.
    """

    values: NDArray[np.float32]
    pitch: int


def stitch(rows: list[dict[str, Any]], image_width: int, image_height: int) -> HeatMap:
    """Stitch the score maps of one image's tiles; a tile without cells counts as one large cell.

    The map has the pitch of the tiles' own cells. The last tiles are shifted inward by any number of pixels, so
    a cell of the map takes the cell of each tile that lies under its centre.
    """
    tile_size = int(rows[0]["tiling_id"].split("-")[0])
    # A stored cell is the root mean square of a whole number of latent cells.
    pitch = math.ceil(tile_size / CELL / len(_cells(rows[0]))) * CELL
    shape = (math.ceil(image_height / pitch), math.ceil(image_width / pitch))
    total, weight = np.zeros(shape), np.zeros(shape)
    for row in rows:
        map_rows, tile_rows = _under_centres(row["y"], row["height"], image_height, shape[0], pitch)
        map_cols, tile_cols = _under_centres(row["x"], row["width"], image_width, shape[1], pitch)
        values = _cells(row)[np.ix_(tile_rows, tile_cols)]
        place = np.ix_(map_rows, map_cols)
        total[place] += np.nan_to_num(values)
        weight[place] += np.isfinite(values)
    heat = np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0)
    return HeatMap(heat.astype(np.float32), pitch)


def _cells(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(row["score_map"] or [[row["score"]]], dtype=np.float64)


def _under_centres(
    start: int, length: int, image_length: int, cells: int, pitch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The map's cells whose centres lie within a tile, along one axis, and the tile's cell under each."""
    edges = np.arange(cells) * pitch
    centres = (edges + np.minimum(edges + pitch, image_length)) / 2  # the last cell may be cut by the image's edge
    inside = np.flatnonzero((centres >= start) & (centres < start + length))
    return inside, ((centres[inside] - start) // pitch).astype(np.int64)
