"""Tiles cover every pixel, and are alike."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssvq.imagery.grid import TileGrid, Tiling, offsets

lengths = st.integers(1, 1500)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = draw(st.integers(8, 160)) * 4
    return Tiling(tile_size=size, stride=draw(st.integers(max(size // 4, 16), size)))


@given(lengths, tilings())
def test_offsets_cover_an_axis_without_gaps_and_stay_within_it(length: int, tiling: Tiling) -> None:
    starts = offsets(length, tiling.tile_size, tiling.stride)
    assert starts[0] == 0
    assert starts[-1] + min(tiling.tile_size, length) == length
    assert all(0 < b - a <= tiling.stride for a, b in pairwise(starts))


sides = st.sampled_from([1, 16, 256, 512, 1024, 100_000])


@given(lengths, lengths, tilings(), st.integers(1, 200), st.tuples(sides, sides))
def test_blocks_partition_the_grid(
    width: int, height: int, tiling: Tiling, max_tiles: int, file_block: tuple[int, int]
) -> None:
    grid = TileGrid(width, height, tiling)
    blocks = grid.blocks(max_tiles, file_block)
    tiles = [tile for block in blocks for tile in grid.tiles(block)]
    assert all(len(block) <= max_tiles for block in blocks)
    assert len(tiles) == len(grid) == len({(tile.row, tile.col) for tile in tiles})
    for block in blocks:
        x, y, w, h = grid.window(block)
        own = list(grid.tiles(block))
        assert x == min(t.x for t in own)
        assert y == min(t.y for t in own)
        assert x + w == max(t.x + t.width for t in own)
        assert y + h == max(t.y + t.height for t in own)


@given(lengths, lengths, tilings())
def test_tiles_have_one_size_unless_the_image_is_smaller(width: int, height: int, tiling: Tiling) -> None:
    grid = TileGrid(width, height, tiling)
    sizes = {(tile.width, tile.height) for block in grid.blocks(128) for tile in grid.tiles(block)}
    assert sizes == {(min(width, tiling.tile_size), min(height, tiling.tile_size))}


def test_every_pixel_is_covered() -> None:
    grid = TileGrid(1001, 750, Tiling(tile_size=512, stride=512))
    covered = np.zeros((750, 1001), bool)
    for block in grid.blocks(2):
        for tile in grid.tiles(block):
            covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    assert covered.all()


def test_names_and_limits() -> None:
    assert Tiling(tile_size=512, stride=256).tiling_id == "512-256-shift"
    with pytest.raises(ValidationError, match="pixels would be missed"):
        Tiling(tile_size=64, stride=65)
    with pytest.raises(ValueError, match="no tiles"):
        TileGrid(0, 10, Tiling(tile_size=64, stride=64))


@pytest.mark.parametrize(
    ("tile_size", "file_block", "times"),
    [(512, (512, 512), 1), (512, (256, 256), 1), (512, (40_000, 1), 1), (64, (512, 512), 1), (512, (1024, 1024), 1)],
)
def test_blocks_follow_those_of_the_file(tile_size: int, file_block: tuple[int, int], times: int) -> None:
    """How often a block of the file is decoded, at the mean; the last row and column of tiles are shifted inward."""
    side = 40_000
    grid = TileGrid(side, side, Tiling(tile_size=tile_size, stride=tile_size))
    decoded = 0
    for block in grid.blocks(128 * 512**2 // tile_size**2, file_block):
        x, y, width, height = grid.window(block)
        across, down = (
            -(-(start + length) // size) - start // size
            for start, length, size in ((x, width, file_block[0]), (y, height, file_block[1]))
        )
        decoded += across * down
    assert decoded / (-(-side // file_block[0]) * -(-side // file_block[1])) < times + 0.06
