"""What a step sees is a pure function of the seed and the step, whoever makes it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssvq.config import Augmentation
from ssvq.training.crops import choose_crop
from ssvq.training.sampling import BatchPlan, augment, draw, draw_sample, make_batch, make_sample
from ssvq.training.tile_reader import read_tile
from tests.support.tile_caches import TILE, write_tiles

STILL = Augmentation(flips=False, turns=False)
NORMAL, ANOMALOUS = 10, 6


def choose(mask: NDArray[np.bool_], size: int, *rest: Any) -> tuple[int, int]:
    """A crop by the shares of a mask."""
    return choose_crop(mask.shape, lambda y, x: float(mask[y : y + size, x : x + size].mean()), size, *rest)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> BatchPlan:
    """Normal tiles 0 .. 9 and anomalous ones 100 .. 105 with their left half anomalous; the number of a tile is in
    its first channel, the place of a pixel in the others.
    """
    folder = tmp_path_factory.mktemp("cache")
    y, x = np.mgrid[:TILE, :TILE]
    tiles = [
        np.stack([np.stack([np.full_like(x, number), y, x], axis=-1) for number in range(start, start + count)])
        for start, count in ((0, NORMAL), (100, ANOMALOUS))
    ]
    half = np.broadcast_to(x < TILE // 2, (ANOMALOUS, TILE, TILE))
    return BatchPlan(
        cache=str(folder),
        normal=write_tiles(folder, "normal", tiles[0].astype(np.uint8), np.zeros((NORMAL, TILE, TILE), bool)),
        anomalous=write_tiles(folder, "anomalous", tiles[1].astype(np.uint8), half),
        tile_size=TILE,
        sample_size=8,
        anomalous_fraction=0.5,
        normal_in_batch=8,
        anomalous_in_batch=4,
        normal_limit=1.0,
        augmentation=Augmentation(),
        seed=3,
    )


def test_a_batch_is_a_function_of_seed_and_step(plan: BatchPlan) -> None:
    normal, anomalous, _ = make_batch(plan, 5, 0, 1)
    assert (normal.shape, anomalous.shape) == ((8, 8, 8, 3), (4, 8, 8, 3))
    assert (normal.dtype, anomalous.dtype) == (np.uint8, np.uint8)
    for step in (0, 4, 6):
        make_batch(plan, step, 0, 1)
    np.random.seed(9)  # nothing draws from the global state
    again = make_batch(replace(plan), 5, 0, 1)
    np.testing.assert_array_equal(again[0], normal)
    np.testing.assert_array_equal(again[1], anomalous)
    assert not np.array_equal(make_batch(plan, 6, 0, 1)[0], normal)
    assert not np.array_equal(make_batch(replace(plan, seed=4), 5, 0, 1)[0], normal)


def test_each_sample_of_one_tile_is_cut_anew(plan: BatchPlan) -> None:
    """Within a batch, and from step to step: few labels must go far."""
    plan = replace(plan, anomalous=plan.anomalous[:1])
    samples = [sample.tobytes() for step in range(5) for sample in make_batch(plan, step, 0, 1)[1]]
    assert len(samples) == 20
    assert len(set(samples)) > 15


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_slices_of_the_ranks_are_the_global_batch(plan: BatchPlan, world_size: int) -> None:
    for step in range(3):
        whole = make_batch(plan, step, 0, 1)
        ranks = [make_batch(plan, step, rank, world_size) for rank in range(world_size)]
        for stream in (0, 1):
            np.testing.assert_array_equal(np.concatenate([batch[stream] for batch in ranks]), whole[stream])
            assert {len(batch[stream]) for batch in ranks} == {len(whole[stream]) // world_size}


def test_every_tile_is_seen_once_an_epoch(plan: BatchPlan) -> None:
    steps = 2 * NORMAL  # 16 normal epochs, 13 of the anomalous
    batches = [make_batch(plan, step, 0, 1) for step in range(steps)]
    for stream, tiles, first in ((0, NORMAL, 0), (1, ANOMALOUS, 100)):
        seen = [int(sample[0, 0, 0]) for batch in batches for sample in batch[stream]]
        epochs = [seen[i : i + tiles] for i in range(0, len(seen) - tiles + 1, tiles)]
        assert all(sorted(epoch) == list(range(first, first + tiles)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1  # each epoch in another order


@given(st.integers(0, 99), st.integers(0, 500), st.integers(1, 40), st.integers(1, 30))
@settings(deadline=None)
def test_the_sequence_of_draws_has_no_seams(seed: int, start: int, number: int, length: int) -> None:
    whole = draw(seed, 0, 0, start + number, length)
    assert draw(seed, 0, start, number, length) == whole[start:]
    full = len(whole) // length * length
    assert all(count == full // length for count in Counter(whole[:full]).values())


def test_streams_do_not_meet() -> None:
    assert draw(0, 0, 0, 50, 50) != draw(0, 1, 0, 50, 50)


def test_without_anomalies_that_stream_is_empty(plan: BatchPlan) -> None:
    normal, anomalous, _ = make_batch(replace(plan, anomalous=[], anomalous_in_batch=0), 0, 0, 1)
    assert (normal.shape, anomalous.shape) == ((8, 8, 8, 3), (0, 8, 8, 3))


# Samples


@pytest.mark.parametrize("augment", [False, True])
def test_a_sample_is_a_crop_of_its_tile(plan: BatchPlan, augment: bool) -> None:
    """Augmentation turns and flips, and changes no pixel: each knows its place in the tile."""
    plan = replace(plan, augmentation=Augmentation(flips=augment, turns=augment))
    tile, _ = read_tile(plan.cache, plan.normal[4], TILE)
    orientations = set()
    for seed in range(60):
        sample = make_sample(plan, plan.normal[4], False, np.random.default_rng(seed))
        assert (sample[..., 0] == 4).all()
        ys, xs = sample[..., 1].astype(int), sample[..., 2].astype(int)
        assert len(set(zip(ys.flat, xs.flat, strict=True))) == 64
        assert ys.max() - ys.min() == xs.max() - xs.min() == 7
        np.testing.assert_array_equal(sample, tile[ys, xs])
        # Neighbours in the sample are neighbours in the tile.
        down = (ys[1, 0] - ys[0, 0], xs[1, 0] - xs[0, 0])
        right = (ys[0, 1] - ys[0, 0], xs[0, 1] - xs[0, 0])
        i, j = np.mgrid[:8, :8]
        np.testing.assert_array_equal(ys, ys[0, 0] + i * down[0] + j * right[0])
        np.testing.assert_array_equal(xs, xs[0, 0] + i * down[1] + j * right[1])
        orientations.add((*map(int, down), *map(int, right)))
    assert len(orientations) == (8 if augment else 1)


def test_whole_tiles_are_samples_too(plan: BatchPlan) -> None:
    plan = replace(plan, sample_size=TILE, augmentation=STILL)
    sample = make_sample(plan, plan.anomalous[2], True, np.random.default_rng(0))
    np.testing.assert_array_equal(sample, read_tile(plan.cache, plan.anomalous[2], TILE)[0])


def test_crops_stay_off_the_padding_of_a_small_image(plan: BatchPlan) -> None:
    small = replace(plan.normal[0], width=10, height=9)
    for seed in range(40):
        sample = make_sample(replace(plan, augmentation=STILL), small, False, np.random.default_rng(seed))
        assert sample[..., 1].max() < 9
        assert sample[..., 2].max() < 10


def test_a_crop_larger_than_the_image_takes_its_padding(plan: BatchPlan) -> None:
    small = replace(plan.normal[0], width=4, height=6)
    sample = make_sample(replace(plan, augmentation=STILL), small, False, np.random.default_rng(0))
    tile = read_tile(plan.cache, small, TILE)[0]
    np.testing.assert_array_equal(sample, tile[:8, :8])


# Augmentation


def test_brightness_is_within_its_bounds_and_keeps_black_black() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    grey[0] = 0
    mild = Augmentation(flips=False, turns=False, brightness=0.2)
    values = [augment(grey, mild, np.random.default_rng(seed)) for seed in range(200)]
    assert all((value[0] == 0).all() for value in values)
    found = np.array([value[1, 0, 0] for value in values])
    assert (found.min(), found.max()) == pytest.approx((80, 120), abs=2)
    assert all(len(np.unique(value[1:])) == 1 for value in values)
    assert augment(np.full((4, 4, 3), 250, np.uint8), mild, np.random.default_rng(1)).max() <= 255


@pytest.mark.parametrize("world_size", [3, 5])
def test_ranks_that_do_not_divide_the_batch_have_equally_many(plan: BatchPlan, world_size: int) -> None:
    """As an elastic run may come to; the ranks gather their latents, which must be of one shape."""
    whole = make_batch(plan, 2, 0, 1)
    ranks = [make_batch(plan, 2, rank, world_size) for rank in range(world_size)]
    for stream in (0, 1):
        assert len({len(batch[stream]) for batch in ranks}) == 1
        together = np.concatenate([batch[stream] for batch in ranks])
        np.testing.assert_array_equal(together[: len(whole[stream])], whole[stream])


@pytest.mark.parametrize(("limit", "reached"), [(1.0, 1.0), (0.1, 0.5)])
def test_normal_crops_keep_to_the_limits_of_normal_tiles(plan: BatchPlan, limit: float, reached: float) -> None:
    plan = replace(plan, normal_limit=limit, augmentation=STILL)
    columns = [make_sample(plan, plan.anomalous[0], False, np.random.default_rng(s))[0, 0, 2] for s in range(100)]
    shares = np.clip(TILE // 2 - np.array(columns, int), 0, 8) / 8  # of a crop, that lies in the anomalous left half
    # A few tries find one of the 9 places that is under a tenth in 6 cases of 10, and one under half nearly always.
    assert np.mean(shares <= limit) >= reached
    assert np.mean(shares < 0.5) > 0.9


# Crops


def by_half(wants: bool) -> Callable[[float], bool]:
    return lambda share: (share >= 0.5) == wants


@given(
    st.integers(1, 24), st.integers(1, 24), st.integers(1, 24), st.floats(0.01, 1), st.booleans(), st.integers(0, 999)
)
@settings(max_examples=200, deadline=None)
def test_a_crop_lies_within_the_mask(
    height: int, width: int, size: int, fraction: float, wants: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    y, x = choose(rng.random((height, width)) < 0.5, size, lambda share: share >= fraction, wants, rng)
    assert 0 <= y <= max(0, height - size)
    assert 0 <= x <= max(0, width - size)


@pytest.mark.parametrize("wants", [False, True])
def test_a_crop_has_the_label_of_its_stream_by_the_rule_of_tiles(wants: bool) -> None:
    mask = np.zeros((32, 32), bool)
    mask[:, :16] = True
    corners = [choose(mask, 8, by_half(wants), wants, np.random.default_rng(seed)) for seed in range(200)]
    labels = [mask[y : y + 8, x : x + 8].mean() >= 0.5 for y, x in corners]
    # Half of all crops have the label, so 8 tries miss it once in 256.
    assert np.mean([label == wants for label in labels]) > 0.97
    assert len(set(corners)) > 50


def test_at_the_fraction_a_crop_is_anomalous() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    seen: list[int] = []

    class Spy:
        def integers(self, high: int) -> int:
            seen.append(high)
            return 0

    choose(mask, 8, by_half(True), True, Spy())  # type: ignore[arg-type]
    assert len(seen) == 2  # the first try was taken


@pytest.mark.parametrize("wants", [False, True])
def test_where_no_crop_has_the_label_the_nearest_is_taken(wants: bool) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((32, 32)) < np.linspace(0.2, 0.8, 32)
    nearest = choose(mask, 8, lambda share: False, wants, np.random.default_rng(1))
    same_draws = np.random.default_rng(1)
    tries = [(int(same_draws.integers(25)), int(same_draws.integers(25))) for _ in range(8)]
    best = max(tries, key=lambda at: (1 if wants else -1) * mask[at[0] : at[0] + 8, at[1] : at[1] + 8].mean())
    assert nearest == best


# Labels by cell


def test_shares_of_cells_are_turned_with_the_pixels(tmp_path: Path) -> None:
    """Pixels that say where the mask is: the share of a cell is that of its own pixels, however a sample is turned."""
    masks = np.random.default_rng(0).random((3, TILE, TILE)) < 0.4
    pixels = np.repeat((masks * 255).astype(np.uint8)[..., None], 3, axis=-1)
    tiles = [replace(tile, is_clean=False) for tile in write_tiles(tmp_path, "marked", pixels, masks)]
    plan = BatchPlan(
        cache=str(tmp_path),
        normal=tiles,
        anomalous=tiles,
        tile_size=TILE,
        sample_size=TILE // 2,
        anomalous_fraction=0.1,
        normal_limit=1.0,
        normal_in_batch=4,
        anomalous_in_batch=3,
        augmentation=Augmentation(),
        seed=1,
        cell=4,
    )
    for step in range(5):
        batch = make_batch(plan, step, 0, 1)
        assert batch.shares is not None
        seen = np.concatenate([batch.normal, batch.anomalous])[..., 0] / 255
        side = TILE // 2 // 4
        cells = seen.reshape(-1, side, 4, side, 4).mean((2, 4))
        np.testing.assert_allclose(batch.shares, cells, atol=1e-6)


def test_shares_are_unknown_where_the_label_is_of_the_tile_and_in_padding(plan: BatchPlan) -> None:
    whole = replace(plan, sample_size=TILE, cell=4, augmentation=STILL)
    told = replace(whole.anomalous[0], knows_pixels=False)
    rng = np.random.default_rng(0)
    assert np.isnan(draw_sample(whole, told, True, rng).shares(4)).all()
    small = replace(whole.normal[0], width=10, height=TILE, is_clean=True)
    shares = draw_sample(whole, small, False, rng).shares(4)
    assert (shares[:, :2] == 0).all()
    assert np.isnan(shares[:, 2:]).all()


def test_a_label_of_a_part_says_nothing_of_the_rest(plan: BatchPlan) -> None:
    """The masks of the anomalous tiles are their left halves: as a part that has the label, normal or anomalous."""
    whole = replace(plan, sample_size=TILE, augmentation=STILL)
    rng = np.random.default_rng(0)
    part = replace(plan.anomalous[0], label_in_mask=True)
    for is_anomalous in (True, False):
        shares = draw_sample(whole, part, is_anomalous, rng).shares(4)
        assert (shares[:, :2] == is_anomalous).all()
        assert np.isnan(shares[:, 2:]).all()
    turned = replace(plan, sample_size=TILE)
    assert {int(np.isnan(draw_sample(turned, part, True, rng).shares(4)).sum()) for _ in range(10)} == {8}


def test_crops_of_a_part_always_hold_some_of_it(plan: BatchPlan, tmp_path: Path) -> None:
    mask = np.zeros((1, TILE, TILE), bool)
    mask[0, 5:7, 13:15] = True  # less than half of any cell of 4 pixels
    (tile,) = write_tiles(tmp_path, "small", np.zeros((1, TILE, TILE, 3), np.uint8), mask)
    small = replace(plan, cache=str(tmp_path))
    rng = np.random.default_rng(0)
    for _ in range(50):
        sample = draw_sample(small, replace(tile, label_in_mask=True), False, rng)
        assert 0 <= sample.y <= TILE - 8
        assert 0 <= sample.x <= TILE - 8
        assert (sample.shares(4) == 0).any()
