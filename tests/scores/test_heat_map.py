"""Stitching: each cell of a tile ends where it lies in the image."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssvq.imagery.grid import CELL, Tile, TileBlock, TileGrid, Tiling
from ssvq.inference.scorer import MAP_SIDE
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.heat_map import stitch as stitch_tiles
from ssvq.scores.schema import SCORE_MAP
from ssvq.scores.score_map import ScoreMap
from tests.support.rows import score_map_of

# Values of the cells of a tile, from the centres of the cells in the image's pixels: y (n, 1) and x (1, n).
Field = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def pooled_side(tile_size: int) -> tuple[int, int]:
    """Cells on a side of a stored score map, and pixels on a side of such a cell; as the scorer pools them."""
    cells = tile_size // CELL
    factor = math.ceil(cells / MAP_SIDE)
    return math.ceil(cells / factor), factor * CELL


def row_of(tile: Tile, tiling: Tiling, field: Field) -> dict[str, Any]:
    """The row of a tile with the field's values in its cells."""
    side, pitch = pooled_side(tiling.tile_size)
    starts = np.arange(side) * pitch
    centres = (starts + np.minimum(starts + pitch, tiling.tile_size)) / 2  # the last cell may be narrower
    values = field((tile.y + centres)[:, None], (tile.x + centres)[None, :])
    return {
        "tiling_id": tiling.tiling_id,
        **{name: getattr(tile, name) for name in ("x", "y", "width", "height")},
        "score": 7.0,
        "score_map": np.broadcast_to(values, (side, side)).tolist(),
    }


def rows_of(width: int, height: int, tiling: Tiling, field: Field) -> list[dict[str, Any]]:
    grid = TileGrid(width, height, tiling)
    return [row_of(tile, tiling, field) for tile in grid.tiles(TileBlock(0, len(grid.ys), 0, len(grid.xs)))]


def stitch(rows: list[dict[str, Any]], width: int, height: int) -> HeatMap:
    return stitch_tiles(score_map_of(rows), width, height)


def centres_of(length: int, cells: int, pitch: int) -> NDArray[np.float64]:
    starts = np.arange(cells) * pitch
    return (starts + np.minimum(starts + pitch, length)) / 2


@st.composite
def images(draw: st.DrawFn) -> tuple[int, int, Tiling]:
    tile_size = CELL * draw(st.integers(4, 140))
    stride = draw(st.integers(max(1, tile_size // 3), tile_size))
    sides = st.integers(1, 3 * tile_size)
    return draw(sides), draw(sides), Tiling(tile_size=tile_size, stride=stride)


@given(images())
@settings(max_examples=150, deadline=None)
def test_every_pixel_lies_under_a_cell(image: tuple[int, int, Tiling]) -> None:
    width, height, tiling = image
    heat = stitch(rows_of(width, height, tiling, lambda y, x: np.full((1, 1), 3.5)), width, height)
    assert heat.values.dtype == np.float32
    assert heat.pitch_x == heat.pitch_y == pooled_side(tiling.tile_size)[1]
    rows, cols = heat.values.shape
    assert (rows - 1) * heat.pitch_y < height <= rows * heat.pitch_y
    assert (cols - 1) * heat.pitch_x < width <= cols * heat.pitch_x
    np.testing.assert_array_equal(heat.values, 3.5)


@given(images())
@settings(max_examples=150, deadline=None)
def test_a_cell_is_off_by_half_a_cell_at_most(image: tuple[int, int, Tiling]) -> None:
    width, height, tiling = image
    down = stitch(rows_of(width, height, tiling, lambda y, x: y + 0 * x), width, height)
    right = stitch(rows_of(width, height, tiling, lambda y, x: x + 0 * y), width, height)
    rows, cols = down.values.shape
    pitch = pooled_side(tiling.tile_size)[1]
    half = pitch / 2 + 1e-2
    assert np.abs(down.values - centres_of(height, rows, pitch)[:, None]).max() <= half
    assert np.abs(right.values - centres_of(width, cols, pitch)[None, :]).max() <= half


def test_tiles_that_fall_on_whole_cells_are_laid_side_by_side() -> None:
    tiling = Tiling(tile_size=16, stride=16)
    rows = rows_of(32, 48, tiling, lambda y, x: 100 * y + x)
    heat = stitch(rows, 32, 48)
    centres_y, centres_x = np.arange(12) * 4 + 2, np.arange(8) * 4 + 2
    assert heat.pitch_x == heat.pitch_y == 4
    np.testing.assert_array_equal(heat.values, 100 * centres_y[:, None] + centres_x)
    np.testing.assert_array_equal(stitch(rows[::-1], 32, 48).values, heat.values)


def test_a_last_tile_that_is_shifted_inward_is_shifted_back() -> None:
    """A 24-pixel row in tiles of 16: the second begins at 8, on a cell, and the overlap is averaged."""
    tiling = Tiling(tile_size=16, stride=16)
    first, second = rows_of(24, 16, tiling, lambda y, x: x + 0 * y)
    assert second["x"] == 8
    second["score_map"] = (np.array(second["score_map"]) + 1000).tolist()
    heat = stitch([first, second], 24, 16)
    np.testing.assert_array_equal(heat.values[0], [2, 6, 10 + 500, 14 + 500, 18 + 1000, 22 + 1000])


def test_a_cell_without_a_value_leaves_the_average_to_the_other_tile() -> None:
    tiling = Tiling(tile_size=16, stride=8)
    first, second = rows_of(24, 16, tiling, lambda y, x: np.full((1, 1), 2.0))
    second["score_map"] = np.full((4, 4), 4.0).tolist()
    second["score_map"][0][0] = float("nan")  # over the third column of the image's cells
    first["score_map"][1][0] = float("nan")  # where nothing else is
    heat = stitch([first, second], 24, 16)
    np.testing.assert_array_equal(heat.values[0], [2, 2, 2, 3, 4, 4])
    np.testing.assert_array_equal(heat.values[1], [np.nan, 2, 3, 3, 4, 4])


def test_where_no_tile_was_scored_there_is_nothing() -> None:
    tiling = Tiling(tile_size=16, stride=16)
    rows = rows_of(48, 16, tiling, lambda y, x: np.full((1, 1), 1.0))
    heat = stitch([rows[0], rows[2]], 48, 16)
    np.testing.assert_array_equal(np.isnan(heat.values[0]), [False] * 4 + [True] * 4 + [False] * 4)


def test_the_padding_of_an_image_smaller_than_a_tile_is_cut_off() -> None:
    tiling = Tiling(tile_size=64, stride=64)
    rows = rows_of(10, 21, tiling, lambda y, x: 100 * y + x)
    assert len(rows[0]["score_map"]) == 16
    heat = stitch(rows, 10, 21)
    np.testing.assert_array_equal(heat.values, 100 * (np.arange(6) * 4 + 2)[:, None] + np.arange(3) * 4 + 2)


@pytest.mark.parametrize("tile_size", [64, 100, 132, 512])
def test_a_constant_map_stays_constant(tile_size: int) -> None:
    tiling = Tiling(tile_size=tile_size, stride=tile_size)
    heat = stitch(rows_of(700, 555, tiling, lambda y, x: np.full((1, 1), 1.25)), 700, 555)
    np.testing.assert_array_equal(heat.values, 1.25)


def test_the_pitch_is_known_for_every_tile_size() -> None:
    for tile_size in range(16, 4097, CELL):
        side, pitch = pooled_side(tile_size)
        row = {"tiling_id": f"{tile_size}-{tile_size}-shift", "x": 0, "y": 0, "width": 4, "height": 4, "score": 1.0}
        assert stitch([{**row, "score_map": [[1.0] * side] * side}], 4, 4).pitch_x == pitch


def test_a_method_without_cells_colours_whole_tiles() -> None:
    tiling = Tiling(tile_size=16, stride=16)
    rows = rows_of(40, 16, tiling, lambda y, x: np.full((1, 1), 0.0))
    for score, row in zip((1.0, 2.0, 3.0), rows, strict=True):
        row |= {"score_map": None, "score": score}
    heat = stitch(rows, 40, 16)
    assert heat.pitch_x == heat.pitch_y == 16
    # The last tile begins at 24, where the second cell of the map has its centre: it is under both tiles.
    np.testing.assert_array_equal(heat.values, [[1, 2.5, 3]])


@given(images())
@settings(max_examples=50)
def test_pixels_lie_in_the_cell_under_them(image: tuple[int, int, Tiling]) -> None:
    width, height, tiling = image
    heat = stitch(rows_of(width, height, tiling, lambda y, x: y + 1000 * x), width, height)
    pitch = pooled_side(tiling.tile_size)[1]
    np.testing.assert_array_equal(heat.rows_under(0, height), np.arange(height) // pitch)
    np.testing.assert_array_equal(heat.cols_under(0, width), np.arange(width) // pitch)
    np.testing.assert_array_equal(
        heat.rows_under(height // 2, height - height // 2), np.arange(height)[height // 2 :] // pitch
    )
    assert heat.extent == (0, heat.values.shape[1] * pitch, heat.values.shape[0] * pitch, 0)


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([64, 128, 132]))
def test_a_whole_image_that_was_squeezed_into_a_square_is_stretched_back(
    width: int, height: int, tile_size: int
) -> None:
    side, _ = pooled_side(tile_size)
    row = {"tiling_id": f"{tile_size}-whole", "x": 0, "y": 0, "width": width, "height": height, "score": 1.0}
    values = np.arange(side * side, dtype=float).reshape(side, side)
    heat = stitch([{**row, "score_map": values.tolist()}], width, height)
    np.testing.assert_array_equal(heat.values, values)
    assert heat.pitch_x * side == pytest.approx(width)
    assert heat.pitch_y * side == pytest.approx(height)
    for pixels, cells in ((heat.rows_under(0, height), height), (heat.cols_under(0, width), width)):
        np.testing.assert_array_equal(pixels, ((np.arange(cells) + 0.5) * side / cells).astype(int))
    assert heat.extent == pytest.approx((0, width, height, 0))


def test_a_whole_image_of_a_method_without_cells_is_one_cell() -> None:
    row = {"tiling_id": "64-whole", "x": 0, "y": 0, "width": 30, "height": 20, "score": 2.0, "score_map": None}
    heat = stitch([row], 30, 20)
    np.testing.assert_array_equal(heat.values, [[2.0]])
    assert (heat.pitch_x, heat.pitch_y) == (30, 20)


def test_half_floats_of_a_table_are_read_as_they_are() -> None:
    tiling = Tiling(tile_size=16, stride=16)
    rows = rows_of(40, 16, tiling, lambda y, x: y + 100 * x)
    places = {name: pa.array([row[name] for row in rows], pa.int32()) for name in ("x", "y", "width", "height")}
    maps = pa.array([np.float16(row["score_map"]).tolist() for row in rows], SCORE_MAP.field("score_map").type)
    numbers = {name: pa.array([7.0] * len(rows)) for name in ("score", "threshold")}
    table = pa.table({"tiling_id": [tiling.tiling_id] * len(rows), **places, **numbers, "score_map": maps})
    read = ScoreMap.from_table(table)
    assert (read.tiling, read.threshold, read.cells.dtype) == (tiling, 7.0, np.float16)
    np.testing.assert_array_equal(stitch_tiles(read, 40, 16).values, stitch(rows, 40, 16).values)


def test_a_distance_that_is_not_finite_is_no_value() -> None:
    tiling = Tiling(tile_size=16, stride=8)
    first, second = rows_of(24, 16, tiling, lambda y, x: np.full((1, 1), 2.0))
    first["score_map"][0][2] = float("inf")
    np.testing.assert_array_equal(stitch([first, second], 24, 16).values, 2.0)
