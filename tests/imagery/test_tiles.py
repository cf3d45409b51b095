"""Tiles are slices of the image; what is not image is not valid."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssvq.imagery.grid import TileGrid, Tiling
from ssvq.imagery.pixel_rule import AS_STORED
from ssvq.imagery.raster import open_raster
from ssvq.imagery.tiles import cut_tiles, valid_cells
from tests.support.images import write_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 256, (170, 190, 3), dtype=np.uint8)
INVALID = RNG.random((170, 190)) < 0.1
MASK = RNG.integers(0, 2, (170, 190), dtype=np.uint8)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = 4 * draw(st.integers(4, 24))
    return Tiling(tile_size=size, stride=draw(st.integers(size // 3, size)))


@given(
    height=st.integers(1, 170),
    width=st.integers(1, 190),
    tiling=tilings(),
    max_tiles=st.integers(1, 12),
    holes=st.booleans(),
    layout=st.sampled_from([{}, {"tiled": True, "blockxsize": 64, "blockysize": 32}, {"interleave": "pixel"}]),
)
def test_tiles_are_slices_of_the_image_and_its_mask(
    height: int, width: int, tiling: Tiling, max_tiles: int, holes: bool, layout: dict[str, object]
) -> None:
    pixels, invalid = PIXELS[:height, :width].copy(), INVALID[:height, :width] & holes
    pixels[invalid] = 0
    grid = TileGrid(width, height, tiling)
    with tempfile.TemporaryDirectory() as folder:
        image_path = write_image(Path(folder, "a.tif"), pixels, nodata=0 if holes else None, **layout)
        with open_raster(str(image_path)) as image:
            for block in grid.blocks(max_tiles):
                x, y, columns, rows = grid.window(block)
                found = cut_tiles(image, grid, block, AS_STORED, MASK[y : y + rows, x : x + columns])
                tiles = list(grid.tiles(block))
                side = tiling.tile_size
                assert found.pixels.shape == (len(tiles), side, side, 3)
                assert found.classes is not None
                valid = np.ones(found.classes.shape, bool) if found.valid is None else found.valid
                for i, tile in enumerate(tiles):
                    there = np.s_[: tile.height, : tile.width]
                    own = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
                    filled = pixels[own].copy()
                    if not invalid[own].all():
                        filled[invalid[own]] = found.pixels[i][there][invalid[own]]
                    np.testing.assert_array_equal(found.pixels[i][there], filled)
                    np.testing.assert_array_equal(valid[i][there], ~invalid[own])
                    np.testing.assert_array_equal(found.classes[i][there], MASK[own])
                    # All else is padding.
                    assert valid[i].sum() == (~invalid[own]).sum()
                    assert found.valid_fraction[i] == pytest.approx((~invalid[own]).mean())
                    assert np.count_nonzero(found.classes[i]) == np.count_nonzero(MASK[own])


@pytest.mark.parametrize(("height", "width"), [(20, 25), (3, 64), (64, 3), (1, 1)])
def test_a_small_image_is_padded_by_its_reflection(tmp_path: Path, height: int, width: int) -> None:
    pixels = PIXELS[:height, :width]
    path = write_image(tmp_path / "a.png", pixels)
    grid = TileGrid(width, height, Tiling(tile_size=64, stride=64))
    (block,) = grid.blocks(128)
    with open_raster(str(path)) as image:
        found = cut_tiles(image, grid, block, AS_STORED)
    row, col = (
        np.concatenate([np.r_[0:size], np.r_[size - 1 : -1 : -1]])[np.arange(64) % (2 * size)]
        for size in (height, width)
    )
    np.testing.assert_array_equal(found.pixels[0], pixels[np.ix_(row, col)])
    expected = np.zeros((64, 64), bool)
    expected[:height, :width] = True
    assert found.valid is not None
    np.testing.assert_array_equal(found.valid[0], expected)
    assert found.valid_fraction.tolist() == [1]
    assert found.area == height * width
    assert found.classes is None


def test_holes_take_the_mean_colour_of_their_tile(tmp_path: Path) -> None:
    pixels = PIXELS[:64, :192].copy()
    invalid = INVALID[:64, :192].copy()
    invalid[:, :64], invalid[:, 64:128] = False, True
    pixels[invalid] = 0
    path = write_image(tmp_path / "a.tif", pixels, nodata=0)
    grid = TileGrid(190, 64, Tiling(tile_size=64, stride=64))
    (block,) = grid.blocks(128)
    with open_raster(str(path)) as image:
        whole, empty, partly = cut_tiles(image, grid, block, AS_STORED).pixels
    np.testing.assert_array_equal(whole, pixels[:, :64])
    assert not empty.any()
    own, hole = pixels[:, 126:190], invalid[:, 126:190]
    np.testing.assert_array_equal(partly[~hole], own[~hole])
    np.testing.assert_array_equal(np.unique(partly[hole], axis=0), [np.rint(own[~hole].mean(axis=0))])


def test_holes_of_a_small_image_are_filled_and_reflected(tmp_path: Path) -> None:
    pixels = PIXELS[:20, :24].copy()
    pixels[5:9, 3:8] = 0
    hole = (pixels == 0).all(axis=2)
    path = write_image(tmp_path / "a.tif", pixels, nodata=0)
    grid = TileGrid(24, 20, Tiling(tile_size=32, stride=32))
    (block,) = grid.blocks(128)
    with open_raster(str(path)) as image:
        found = cut_tiles(image, grid, block, AS_STORED)
    (tile,) = found.pixels
    np.testing.assert_array_equal(tile[:20, :24][~hole], pixels[~hole])
    np.testing.assert_array_equal(tile[20:, :24], tile[8:20, :24][::-1])
    np.testing.assert_array_equal(tile[:, 24:], tile[:, 16:24][:, ::-1])
    assert tile.all(), "no black is left"
    assert found.valid is not None
    np.testing.assert_array_equal(found.valid[0, :20, :24], ~hole)


def test_valid_is_none_where_every_pixel_is(tmp_path: Path) -> None:
    alpha = np.full((64, 128, 1), 255, np.uint8)
    alpha[5, 70] = 0
    path = write_image(tmp_path / "a.png", np.concatenate([PIXELS[:64, :128], alpha], axis=2))
    grid = TileGrid(128, 64, Tiling(tile_size=64, stride=64))
    first, second = grid.blocks(1)
    with open_raster(str(path)) as image:
        whole, holed = cut_tiles(image, grid, first, AS_STORED), cut_tiles(image, grid, second, AS_STORED)
    assert whole.valid is None
    assert whole.valid_fraction.tolist() == [1]
    assert holed.valid is not None
    assert holed.valid_fraction.tolist() == [1 - 1 / 64**2]


def test_a_block_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "a.tif", PIXELS)
    grid = TileGrid(190, 170, Tiling(tile_size=64, stride=32))
    (block,) = grid.blocks(128)
    windows: list[tuple[int, ...]] = []
    with open_raster(str(path)) as image:

        class Recorder:
            def __getattr__(self, name: str) -> object:
                return getattr(image, name)

            def read(self, *args: object, window: rasterio.windows.Window, **options: object) -> object:
                windows.append(window.flatten())
                return image.read(*args, window=window, **options)

        cut_tiles(Recorder(), grid, block, AS_STORED)  # type: ignore[arg-type]
    assert windows == [(0, 0, 190, 170)]


@given(arrays(bool, (2, 16, 24), elements=st.sampled_from([True] * 30 + [False])), st.sampled_from([1, 2, 4, 8]))
def test_a_cell_is_valid_where_all_its_pixels_are(valid: np.ndarray, cell: int) -> None:
    cells = valid_cells(valid, cell)
    assert cells.shape == (2, 16 // cell, 24 // cell)
    for (n, row, col), is_valid in np.ndenumerate(cells):
        own = valid[n, row * cell : (row + 1) * cell, col * cell : (col + 1) * cell]
        assert is_valid == own.all()
