"""Cutting a block of an image into tiles that a model takes."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from ssvq.imagery.grid import TileBlock, TileGrid
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb


@dataclass(frozen=True)
class TileArrays:
    """Tiles of one block, in the grid's row-major order; n tiles of side t.

    pixels: uint8 (n, t, t, 3). valid: bool (n, t, t), False at nodata and at padding; None when all are valid.
    classes: uint8 (n, t, t), the class of each pixel, 0 normal; None where labels are not known.
    area: pixels of each tile that are of the image and not padding.
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None
    classes: NDArray[np.uint8] | None
    area: int

    @property
    def valid_fraction(self) -> NDArray[np.float64]:
        """Share of each tile's own pixels that are valid, float64 (n,)."""
        if self.valid is None:
            return np.ones(len(self.pixels))
        return np.count_nonzero(self.valid, axis=(1, 2)) / self.area

    @property
    def anomalous_fraction(self) -> NDArray[np.float64]:
        """Share of each tile's own pixels that are anomalous, float64 (n,). Raises ValueError without labels."""
        if self.classes is None:
            raise ValueError("these tiles have no labels")
        return np.count_nonzero(self.classes, axis=(1, 2)) / self.area


def cut_tiles(
    image: DatasetReader,
    grid: TileGrid,
    block: TileBlock,
    rule: PixelRule,
    classes: NDArray[np.uint8] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> TileArrays:
    """Read the block's window once and cut it into tiles; one read decodes each of the file's blocks once.

    `rule` says how stored values become pixels. `classes`: of the pixels of the block's window, in the size that
    `window_shape` says, or None. `origin`: where the grid's first pixel is in the image.

    A tile that reaches over an image smaller than it is padded by reflection, so that the network sees plausible
    surroundings, and its padding is not valid, so that it is not scored. For the same reason invalid pixels take the
    mean colour of their tile's valid ones: cells near a hole, which are scored, see into it.
    """
    x, y, width, height = grid.window(block)
    shape = window_shape(grid, block)
    pixels, valid = read_rgb(image, origin[0] + x, origin[1] + y, width, height, shape, rule)
    size = grid.tiling.tile_size
    rows, cols = shape
    holes = None if valid is None or valid.all() else ~valid
    if cols < size or rows < size:
        padding = ((0, max(0, size - rows)), (0, max(0, size - cols)))
        valid = np.ones(shape, bool) if valid is None else valid
        pixels = np.pad(pixels, (*padding, (0, 0)), mode="symmetric")
        valid = np.pad(valid, padding)
        holes = None if holes is None else np.pad(holes, padding, mode="symmetric")
        classes = None if classes is None else np.pad(classes, padding)
    corners = [(tile.x - x, tile.y - y) for tile in grid.tiles(block)]
    filled = grid.filled
    tiles = _stack(pixels, corners, size)
    if holes is not None:
        _fill(tiles, _stack(holes, corners, size))
    return TileArrays(
        pixels=tiles,
        valid=None if valid is None or valid.all() else _stack(valid, corners, size),
        classes=None if classes is None else _stack(classes, corners, size),
        area=filled[0] * filled[1],
    )


def window_shape(grid: TileGrid, block: TileBlock) -> tuple[int, int]:
    """Rows and columns that the window of a block is read with."""
    _, _, width, height = grid.window(block)
    size = grid.tiling.tile_size
    return (size, size) if grid.tiling.whole else (height, width)


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _stack(plane: NDArray[_Scalar], corners: list[tuple[int, int]], size: int) -> NDArray[_Scalar]:
    return np.stack([plane[y : y + size, x : x + size] for x, y in corners])


def _fill(tiles: NDArray[np.uint8], holes: NDArray[np.bool_]) -> None:
    """Give the holes of tiles, uint8 (n, t, t, 3), bool (n, t, t), the mean colour of the rest of their tile.

    Against the black that nodata often is, cells at the border of a mosaic scored up to 2.3 times what they do in the
    whole picture; with the mean, up to 1.005 times.
    """
    for pixels, hole in zip(tiles, holes, strict=True):
        if hole.any() and not hole.all():
            pixels[hole] = np.rint(pixels[~hole].mean(axis=0))


def valid_cells(valid: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Which latent cells touch no invalid pixel, bool (n, t / cell, t / cell), of pixels bool (n, t, t)."""
    n, height, width = valid.shape
    return np.all(valid.reshape(n, height // cell, cell, width // cell, cell), axis=(2, 4))
