"""The scorer: what a tile's scores are, and that nothing beside the tile changes them."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.errors import InputError
from ssvq.inference.scorer import MAP_SIDE, TileScorer, normalise, pool_cells, worst_cells
from ssvq.methods.base import Method, Score
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.model.description import Preprocessing
from tests.support.surveys import TILE, make_bundle

TINY = Architecture(hidden=8, residual_hidden=4, residual_layers=1, codes=16, dimensions=4)
PREPROCESSING = Preprocessing(tile_size=TILE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
CPU = torch.device("cpu")
CELLS = TILE // 4


def make_method() -> SSVQVAE:
    torch.manual_seed(0)
    return SSVQVAE(TINY, Objective(), CodebookSettings()).to(memory_format=torch.channels_last)


def scorer_of(batch_size: int = 4, precision: str = "fp32") -> TileScorer:
    return TileScorer(make_method(), PREPROCESSING, batch_size, CPU, precision)


def tiles_of(n: int, side: int = TILE, seed: int = 0) -> NDArray[np.uint8]:
    """Tiles of differing contrast, so that their scores differ."""
    rng = np.random.default_rng(seed)
    contrast = np.linspace(0.1, 1, n)[:, None, None, None]
    return (128 + contrast * rng.uniform(-128, 127, (n, side, side, 3))).astype(np.uint8)


def some_cells(n: int, seed: int = 0) -> NDArray[np.bool_]:
    """At least one valid cell in each tile."""
    valid = np.random.default_rng(seed).random((n, CELLS, CELLS)) < 0.7
    valid[:, 0, 0] = True
    return valid


def test_pixels_are_normalised_by_channel() -> None:
    pixels = tiles_of(2)
    found = normalise(torch.from_numpy(pixels), PREPROCESSING)
    assert found.shape == (2, 3, TILE, TILE)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    slow = (pixels / 255 - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)
    np.testing.assert_allclose(found.numpy(), np.moveaxis(slow, -1, 1), atol=1e-5)


def test_scores_are_those_of_the_method() -> None:
    pixels, valid = tiles_of(4), some_cells(4)
    found = scorer_of(4).score(pixels, valid)
    images = normalise(torch.from_numpy(pixels), PREPROCESSING)
    expected = make_method().eval().score(images, torch.from_numpy(valid))
    assert expected.cells is not None
    assert (found.score.dtype, found.score_max.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(found.score, expected.score.numpy(), rtol=1e-6)
    slow_max = [plane[kept].max() for plane, kept in zip(expected.cells.numpy(), valid, strict=True)]
    np.testing.assert_allclose(found.score_max, slow_max, rtol=1e-6)


@given(st.integers(1, 9), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_scores_do_not_depend_on_what_else_is_in_the_batch(n: int, batch_size: int, random: object) -> None:
    """A resumed run groups tiles otherwise."""
    pixels, valid = tiles_of(9), some_cells(9)
    scorer = scorer_of(batch_size)
    whole = scorer.score(pixels, valid)
    chosen = list(range(9))
    random.shuffle(chosen)  # type: ignore[attr-defined]
    chosen = chosen[:n]
    part = scorer.score(pixels[chosen], valid[chosen])
    np.testing.assert_allclose(part.score, whole.score[chosen], rtol=1e-6)
    np.testing.assert_allclose(part.score_max, whole.score_max[chosen], rtol=1e-6)
    assert part.score_map is not None
    assert whole.score_map is not None
    np.testing.assert_array_equal(part.score_map, whole.score_map[chosen])


def test_scores_hardly_depend_on_the_batch_size() -> None:
    pixels = tiles_of(7)
    scores = [scorer_of(batch_size).score(pixels).score for batch_size in (1, 2, 7, 16)]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-5)


def test_the_network_sees_one_shape_only() -> None:
    shapes = set()

    class Spy(Method):
        def score(self, tiles: torch.Tensor, valid_cells: torch.Tensor | None = None) -> Score:
            shapes.add(tuple(tiles.shape))
            return Score(tiles.mean((1, 2, 3)), None)

    found = TileScorer(Spy(), PREPROCESSING, 4, CPU, "fp32").score(tiles_of(9))
    assert shapes == {(4, 3, TILE, TILE)}
    assert found.score.shape == (9,)
    # A method without cells has no map, and its one figure is its largest.
    assert found.score_map is None
    np.testing.assert_array_equal(found.score_max, found.score)


@pytest.mark.parametrize(("side", "tiles"), [(256, 4), (640, 1)])
def test_a_core_takes_few_tiles_at_a_time(side: int, tiles: int) -> None:
    """Whatever is asked for; scores do not depend on it, and no shape but one is seen."""
    shapes = set()

    class Spy(Method):
        def score(self, tiles: torch.Tensor, valid_cells: torch.Tensor | None = None) -> Score:
            shapes.add(tuple(tiles.shape))
            return Score(tiles.mean((1, 2, 3)), None)

    preprocessing = PREPROCESSING.model_copy(update={"tile_size": side})
    pixels = tiles_of(5, side)
    found = TileScorer(Spy(), preprocessing, 16, CPU, "fp32").score(pixels)
    assert shapes == {(tiles, 3, side, side)}
    expected = normalise(torch.from_numpy(pixels), preprocessing).mean((1, 2, 3))
    np.testing.assert_allclose(found.score, expected, rtol=1e-5, atol=1e-6)


def test_read_only_tiles_are_scored() -> None:
    """Ray Data's batches are read-only views."""
    pixels, valid = tiles_of(4), some_cells(4)
    expected = scorer_of().score(pixels, valid).score
    pixels.flags.writeable = valid.flags.writeable = False
    torch.set_warn_always(True)  # else torch would warn of a read-only array once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(scorer_of().score(pixels, valid).score, expected)
    finally:
        torch.set_warn_always(False)


def test_no_tile_has_no_score() -> None:
    found = scorer_of().score(tiles_of(2)[:0])
    assert found.score.shape == found.score_max.shape == (0,)
    assert found.score_map is None


# Validity


def test_only_valid_cells_count() -> None:
    pixels, valid = tiles_of(4), some_cells(4)
    cells = make_method().eval().score(normalise(torch.from_numpy(pixels), PREPROCESSING)).cells
    assert cells is not None
    found = scorer_of().score(pixels, valid)
    for i, (plane, kept) in enumerate(zip(cells.numpy(), valid, strict=True)):
        slow = np.sqrt(np.sum(plane[kept].astype(np.float64) ** 2) * plane.size / kept.sum())
        assert found.score[i] == pytest.approx(slow, rel=1e-5)
        assert found.score_map is not None
        np.testing.assert_array_equal(np.isnan(found.score_map[i]), ~kept)
        np.testing.assert_allclose(found.score_map[i][kept], plane[kept], rtol=1e-3)


def test_what_lies_at_nodata_does_not_matter_beyond_the_sight_of_a_cell() -> None:
    """The right half is nodata; cells whose receptive field it cannot reach score the same whatever is there."""
    side, columns = 128, 32
    pixels = tiles_of(1, side)
    other = pixels.copy()
    other[:, :, side // 2 :] = 255
    valid = np.zeros((1, columns, columns), bool)
    valid[:, :, : columns // 2 - 4] = True  # 4x4 and 4x4 of stride 2, then two 3x3: under 4 cells each way
    first, second = scorer_of().score(pixels, valid), scorer_of().score(other, valid)
    np.testing.assert_allclose(first.score, second.score, rtol=1e-6)
    np.testing.assert_allclose(first.score_max, second.score_max, rtol=1e-6)
    unmasked = [scorer_of().score(p).score[0] for p in (pixels, other)]
    assert abs(unmasked[0] - unmasked[1]) > 1e-3 * unmasked[0]  # else the test would see nothing


def test_a_tile_without_a_valid_cell_has_nan_and_spoils_no_other() -> None:
    pixels, valid = tiles_of(3), some_cells(3)
    expected = scorer_of().score(pixels, valid)
    valid[1] = False
    found = scorer_of().score(pixels, valid)
    assert np.isnan(found.score[1])
    assert np.isnan(found.score_max[1])
    assert found.score_map is not None
    assert np.isnan(found.score_map[1]).all()
    np.testing.assert_array_equal(found.score[[0, 2]], expected.score[[0, 2]])
    np.testing.assert_array_equal(found.score_max[[0, 2]], expected.score_max[[0, 2]])


def test_all_valid_is_as_no_mask() -> None:
    pixels = tiles_of(3)
    masked, plain = scorer_of().score(pixels, np.ones((3, CELLS, CELLS), bool)), scorer_of().score(pixels)
    np.testing.assert_allclose(masked.score, plain.score, rtol=1e-6)
    np.testing.assert_array_equal(masked.score_max, plain.score_max)
    np.testing.assert_allclose(masked.score_map, plain.score_map, rtol=1e-3)


# Maps


@pytest.mark.parametrize(("tile_size", "side"), [(64, 16), (100, 25), (128, 32), (132, 17), (512, 32)])
def test_the_map_has_at_most_32_cells_a_side(tile_size: int, side: int) -> None:
    found = scorer_of(1).score(tiles_of(1, tile_size))
    assert found.score_map is not None
    assert found.score_map.dtype == np.float16
    assert found.score_map.shape == (1, side, side)
    assert side <= MAP_SIDE


@pytest.mark.parametrize("cells", [16, 25, 33, 128])
@pytest.mark.parametrize("masked", [False, True])
def test_pooling_is_the_root_mean_square_of_valid_cells(cells: int, masked: bool) -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.1, 5, (2, cells, cells)).astype(np.float32)
    valid = rng.random((2, cells, cells)) < 0.5 if masked else np.ones((2, cells, cells), bool)
    valid[0, :8, :8] = not masked
    found = pool_cells(torch.from_numpy(distances), torch.from_numpy(valid) if masked else None).numpy()
    factor = -(-cells // MAP_SIDE)
    for tile in range(2):
        for i in range(found.shape[1]):
            for j in range(found.shape[2]):
                place = np.s_[tile, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
                kept = distances[place][valid[place]]
                slow = np.sqrt(np.mean(kept**2)) if len(kept) else np.nan
                assert found[tile, i, j] == pytest.approx(slow, rel=1e-4, nan_ok=True)
    assert np.isnan(found).any() == masked


def test_the_map_adds_up_to_the_score() -> None:
    found = scorer_of(1).score(tiles_of(3, 256))
    assert found.score_map is not None
    cells_in_one = (256 // 4 // found.score_map.shape[1]) ** 2
    squared = (found.score_map.astype(np.float64) ** 2).sum((1, 2)) * cells_in_one
    np.testing.assert_allclose(np.sqrt(squared), found.score, rtol=1e-3)


# Compiling


@pytest.mark.slow
def test_a_compiled_model_scores_the_same() -> None:
    pixels, valid = tiles_of(5), some_cells(5)
    compiled = TileScorer(make_method(), PREPROCESSING, 2, CPU, "fp32", compile=True)
    for cells in (None, valid):
        found, expected = compiled.score(pixels, cells), scorer_of(2).score(pixels, cells)
        np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)
        np.testing.assert_allclose(found.score_max, expected.score_max, rtol=1e-5)
    shuffled = compiled.score(pixels[::-1].copy(), valid[::-1].copy())
    np.testing.assert_allclose(shuffled.score, found.score[::-1], rtol=1e-6)


def test_no_compiler_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*arguments: object) -> None:
        raise RuntimeError("no working C++ compiler found\nset CXX")

    def compile_with_none(function: object, **options: object) -> object:
        return torch._dynamo.optimize(no_compiler)(function)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "compile", compile_with_none)
    with pytest.raises(
        InputError, match=r"--compile: torch.compile failed \(.*C\+\+ compiler.*leave --compile out"
    ) as no:
        TileScorer(make_method(), PREPROCESSING, 2, CPU, "fp32", compile=True)
    assert "\n" not in str(no.value)


# Bundles


def test_a_bundle_is_loaded_whole(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, seed=0)
    scorer = TileScorer.from_bundle(str(tmp_path), 4, "cpu", "fp32")
    assert not scorer.method.training
    assert scorer.preprocessing == bundle.preprocessing
    other = make_bundle(tmp_path / "other", seed=1)
    assert other.model_id != bundle.model_id
    scores = [TileScorer.from_bundle(str(at), 4, "cpu", "fp32").score(tiles_of(2)).score for at in (tmp_path, tmp_path)]
    np.testing.assert_array_equal(*scores)
    others = TileScorer.from_bundle(str(tmp_path / "other"), 4, "cpu", "fp32").score(tiles_of(2)).score
    assert not np.array_equal(scores[0], others)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing is not a finished bundle"):
        TileScorer.from_bundle(str(tmp_path / "nothing"), 4, "cpu")


# The worst cells


def test_the_worst_cells_are_those_of_loops() -> None:
    cells = torch.rand(6, 9, 9, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(6, 9, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    valid[2] = False
    valid[3] = False
    valid[3, 4, 4] = True
    for chosen in (None, valid):
        largest, worst = worst_cells(cells, chosen)
        for i, plane in enumerate(cells):
            values = sorted((plane if chosen is None else plane[chosen[i]]).flatten().tolist(), reverse=True)
            if not values:
                assert torch.isnan(largest[i])
                assert torch.isnan(worst[i])
                continue
            number = max(1, math.ceil(0.02 * len(values)))
            assert largest[i].item() == pytest.approx(values[0])
            assert worst[i].item() == pytest.approx((sum(v * v for v in values[:number]) / number) ** 0.5)
