"""Cutting a block of an image into tiles that a model takes."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from ssvq.imagery.grid import TileBlock, TileGrid
from ssvq.imagery.labels import read_anomalous
from ssvq.imagery.raster import read_rgb


@dataclass(frozen=True)
class TileArrays:
    """Tiles of one block, in the grid's row-major order; n tiles of side t.

    pixels: uint8 (n, t, t, 3). valid: bool (n, t, t), False at nodata and at padding; None when all are valid.
    anomalous: bool (n, t, t), from the mask; None without one.
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None
    anomalous: NDArray[np.bool_] | None

    @property
    def valid_pixels(self) -> NDArray[np.int64]:
        """Number of valid pixels of each tile, int64 (n,)."""
        n, side = self.pixels.shape[:2]
        return np.full(n, side * side) if self.valid is None else np.count_nonzero(self.valid, axis=(1, 2))


def cut_tiles(image: DatasetReader, grid: TileGrid, block: TileBlock, mask: DatasetReader | None = None) -> TileArrays:
    """Read the block's window once and cut it into tiles; one read decodes each of the file's blocks once.

    A tile that reaches over an image smaller than it is padded by reflection, so that the network sees plausible
    surroundings, and its padding is not valid, so that it is not scored.
    """
    x, y, width, height = grid.window(block)
    pixels, valid = read_rgb(image, x, y, width, height)
    anomalous = None if mask is None else read_anomalous(mask, x, y, width, height)
    size = grid.tiling.tile_size
    if width < size or height < size:
        padding = ((0, max(0, size - height)), (0, max(0, size - width)))
        valid = np.ones((height, width), bool) if valid is None else valid
        pixels = np.pad(pixels, (*padding, (0, 0)), mode="symmetric")
        valid = np.pad(valid, padding)
        anomalous = None if anomalous is None else np.pad(anomalous, padding)
    corners = [(tile.x - x, tile.y - y) for tile in grid.tiles(block)]
    return TileArrays(
        pixels=_stack(pixels, corners, size),
        valid=None if valid is None or valid.all() else _stack(valid, corners, size),
        anomalous=None if anomalous is None else _stack(anomalous, corners, size),
    )


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _stack(plane: NDArray[_Scalar], corners: list[tuple[int, int]], size: int) -> NDArray[_Scalar]:
    return np.stack([plane[y : y + size, x : x + size] for x, y in corners])


def valid_cells(valid: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Which latent cells touch no invalid pixel, bool (n, t / cell, t / cell), of pixels bool (n, t, t)."""
    n, height, width = valid.shape
    return np.all(valid.reshape(n, height // cell, cell, width // cell, cell), axis=(2, 4))
