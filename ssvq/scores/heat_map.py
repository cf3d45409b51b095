"""Stitches the score maps of tiles to one map of an image. Overlaps are averaged."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ssvq.imagery.grid import CELL
from ssvq.scores.score_map import ScoreMap


@dataclass(frozen=True)
class HeatMap:
    """A map of cell distances. `values`: float32 (rows, cols), NaN where nothing was scored.

    Cell (i, j) covers `pitch_y` x `pitch_x` source pixels from y = i x `pitch_y` and x = j x `pitch_x` on. The image's
    edge may cut the last cells.
    """

    values: NDArray[np.float32]
    pitch_x: float
    pitch_y: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the map in source pixels, y downwards, as matplotlib takes it."""
        rows, cols = self.values.shape
        return 0, cols * self.pitch_x, rows * self.pitch_y, 0

    def rows_under(self, y: int, height: int) -> NDArray[np.int64]:
        """The row of the map under the centre of each of `height` pixel rows from `y` on, int64 (height,)."""
        return _under_pixels(y, height, self.pitch_y, self.values.shape[0])

    def cols_under(self, x: int, width: int) -> NDArray[np.int64]:
        """The column of the map under the centre of each of `width` pixel columns from `x` on, int64 (width,)."""
        return _under_pixels(x, width, self.pitch_x, self.values.shape[1])


def stitch(tiles: ScoreMap, image_width: int, image_height: int, cell: int = CELL) -> HeatMap:
    """Stitch the cells of one image's tiles. A tile without cells counts as one large cell.

    `cell`: side of a latent cell in pixels of a tile.

    The map has the pitch of the tiles' cells. The last tiles of a row or column are shifted inward by any number of
    pixels, so a cell of the map takes the tile cell under its own centre.
    """
    cells = tiles.score[:, None, None] if tiles.cells is None else tiles.cells
    if tiles.tiling.whole:  # the one tile was squeezed into a square: its cells lie over the image's rectangle
        return HeatMap(cells[0].astype(np.float32), image_width / cells.shape[2], image_height / cells.shape[1])
    # A stored cell is the root mean square of a whole number of latent cells.
    pitch = math.ceil(tiles.tiling.tile_size / cell / cells.shape[1]) * cell
    shape = (math.ceil(image_height / pitch), math.ceil(image_width / pitch))
    total, weight = np.zeros(shape), np.zeros(shape, np.int32)
    axis = cache(_under_centres)  # all tiles of a row or column have the same position along one axis
    places = zip(*(column.tolist() for column in (tiles.x, tiles.y, tiles.width, tiles.height)), strict=True)
    for own, (x, y, width, height) in zip(cells, places, strict=True):
        map_rows, tile_rows = axis(y, height, image_height, shape[0], pitch)
        map_cols, tile_cols = axis(x, width, image_width, shape[1], pitch)
        values = own[tile_rows[:, None], tile_cols].astype(np.float64)
        known = np.isfinite(values)
        total[map_rows, map_cols] += np.where(known, values, 0)
        weight[map_rows, map_cols] += known
    heat = np.divide(total, weight, out=np.full(shape, np.nan), where=weight > 0)
    return HeatMap(heat.astype(np.float32), pitch, pitch)


def _under_centres(
    start: int, length: int, image_length: int, cells: int, pitch: int
) -> tuple[slice, NDArray[np.int64]]:
    """The cells of the map whose centres lie within a tile, along one axis, and the tile cell under each."""
    edges = np.arange(cells) * pitch
    centres = (edges + np.minimum(edges + pitch, image_length)) / 2  # the image's edge may cut the last cell
    first, stop = np.searchsorted(centres, [start, start + length])
    return slice(int(first), int(stop)), ((centres[first:stop] - start) // pitch).astype(np.int64)


def _under_pixels(start: int, length: int, pitch: float, cells: int) -> NDArray[np.int64]:
    centres = np.arange(start, start + length) + 0.5
    return np.minimum(centres // pitch, cells - 1).astype(np.int64)
