"""The grid of tiles over an image: it covers every pixel, and all tiles have the same size.

The score of a tile (Eq. 5) grows with its number of latent cells, so tiles must be alike. The last row and column are
shifted inward instead of being cut ("shift" edge rule). An image smaller than a tile is padded by reflection. With
whole images, the image is resized to one tile.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

CELL = 4
"""Side of a latent cell in pixels: the network's two convolutions of stride 2. Tiles are whole numbers of cells."""


class Tiling(BaseModel):
    """Tile size, stride and edge rule; part of the identity of a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tile_size: int = Field(gt=0)
    """Side of a square tile, in pixels."""

    stride: int = Field(gt=0)
    """Step from one tile to the next, in pixels."""

    whole: bool = False
    """One tile for each image, which is resized to the tile size."""

    @model_validator(mode="after")
    def _no_gaps(self) -> "Tiling":
        if self.stride > self.tile_size:
            raise ValueError(f"stride {self.stride} exceeds the tile size {self.tile_size}: pixels would be missed")
        return self

    @property
    def tiling_id(self) -> str:
        """Folder name of this tiling, for example `512-512-shift` or `128-whole`."""
        return f"{self.tile_size}-whole" if self.whole else f"{self.tile_size}-{self.stride}-shift"

    @classmethod
    def from_id(cls, tiling_id: str) -> "Tiling":
        """The tiling that has a `tiling_id`. Raises ValueError for a name that is none."""
        match tiling_id.split("-"):
            case [size, "whole"]:
                return cls(tile_size=int(size), stride=int(size), whole=True)
            case [size, stride, "shift"]:
                return cls(tile_size=int(size), stride=int(stride))
        raise ValueError(f"{tiling_id!r} is not the name of a tiling, such as 512-512-shift or 128-whole")


@dataclass(frozen=True)
class Tile:
    """One tile of the grid. `x`, `y`, `width`, `height` are source pixels, clipped to the image."""

    row: int
    col: int
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class TileBlock:
    """A rectangle of tiles, `rows` x `cols` as half-open ranges of grid indices."""

    row_start: int
    row_stop: int
    col_start: int
    col_stop: int

    def __len__(self) -> int:
        return (self.row_stop - self.row_start) * (self.col_stop - self.col_start)


def offsets(length: int, tile_size: int, stride: int) -> list[int]:
    """Offsets of tiles along one axis of `length` pixels; the last one ends at the edge.

    Raises ValueError for an axis without pixels.
    """
    if length <= 0:
        raise ValueError(f"an image axis of {length} pixels has no tiles")
    if length <= tile_size:
        return [0]
    steps = math.ceil((length - tile_size) / stride)
    return [min(step * stride, length - tile_size) for step in range(steps + 1)]


class TileGrid:
    """The tiles of one image of `width` x `height` pixels."""

    def __init__(self, width: int, height: int, tiling: Tiling) -> None:
        self.width, self.height, self.tiling = width, height, tiling
        if tiling.whole:
            self.xs, self.ys = [0], [0]
            return
        self.xs = offsets(width, tiling.tile_size, tiling.stride)
        self.ys = offsets(height, tiling.tile_size, tiling.stride)

    def __len__(self) -> int:
        return len(self.xs) * len(self.ys)

    def tile(self, row: int, col: int) -> Tile:
        """The tile at a row and column of the grid."""
        if self.tiling.whole:
            return Tile(row, col, 0, 0, self.width, self.height)
        return Tile(row, col, self.xs[col], self.ys[row], *self.filled)

    @property
    def filled(self) -> tuple[int, int]:
        """Columns and rows of each tile's array that hold pixels of the image; the rest is padding."""
        size = self.tiling.tile_size
        return (size, size) if self.tiling.whole else (min(size, self.width), min(size, self.height))

    def tiles(self, block: TileBlock) -> Iterator[Tile]:
        """The tiles of a block in row-major order."""
        for row in range(block.row_start, block.row_stop):
            for col in range(block.col_start, block.col_stop):
                yield self.tile(row, col)

    def places(self, block: TileBlock, positions: NDArray[np.integer]) -> NDArray[np.int32]:
        """Tiles of a block in columns, int32 (6, n): row, col, x, y, width, height of the tiles at these positions
        in row-major order, as `tile` gives them.
        """
        cols_of_block = block.col_stop - block.col_start
        rows, cols = block.row_start + positions // cols_of_block, block.col_start + positions % cols_of_block
        width, height = (self.width, self.height) if self.tiling.whole else self.filled
        x, y = np.asarray(self.xs)[cols], np.asarray(self.ys)[rows]
        sizes = np.full(len(positions), width), np.full(len(positions), height)
        return np.stack([rows, cols, x, y, *sizes]).astype(np.int32)

    def corners(self, block: TileBlock) -> tuple[list[int], list[int]]:
        """Offsets y of a block's rows of tiles and x of its columns, in pixels of the block's window."""
        ys, xs = self.ys[block.row_start : block.row_stop], self.xs[block.col_start : block.col_stop]
        return [y - ys[0] for y in ys], [x - xs[0] for x in xs]

    def window(self, block: TileBlock) -> tuple[int, int, int, int]:
        """Pixels that the tiles of a block cover together: x, y, width, height."""
        first = self.tile(block.row_start, block.col_start)
        last = self.tile(block.row_stop - 1, block.col_stop - 1)
        return first.x, first.y, last.x + last.width - first.x, last.y + last.height - first.y

    def blocks(self, max_tiles: int, file_block: tuple[int, int] = (1, 1)) -> list[TileBlock]:
        """Cut the grid into blocks of at most `max_tiles` tiles.

        Blocks follow the file's own blocks of `file_block` pixels (width, height), so that few of those are decoded
        twice: bands of whole rows if they fit, else rectangles.
        """
        rows, cols = len(self.ys), len(self.xs)
        across, down = (max(1, min(side // self.tiling.stride, max_tiles)) for side in file_block)
        down = min(down, rows)
        if cols * down <= max_tiles:
            width, height = cols, max_tiles // cols // down * down
        else:
            width, height = max_tiles // down, down
            width = width // across * across or width
        return [
            TileBlock(row, min(row + height, rows), col, min(col + width, cols))
            for row in range(0, rows, height)
            for col in range(0, cols, width)
        ]
