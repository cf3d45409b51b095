"""Which tiles the training sees: labels, the split by image, gamma, and the counts that say so."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssvq.config import TrainConfig
from ssvq.errors import InputError
from ssvq.training.dataset import TileSets, draw_tile_sets
from ssvq.training.tile_cache import INDEX_SCHEMA

FAILED = "failed"


def config_of(**changes: Any) -> TrainConfig:
    return TrainConfig(images="/images", masks="/masks", out="/out", tile_size=32, batch_size=8, **changes)


def index_of(images: dict[str, list[float] | str], **changes: Any) -> pa.Table:
    """An index of images by name, each with the anomalous fractions of its tiles, or FAILED."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for name, fractions in images.items():
        known = {"image_id": name, "path": f"{name}.png"}
        if fractions == FAILED:
            rows.append({**known, "error_stage": "read", "error_message": "is torn"})
            continue
        for i, fraction in enumerate(fractions):
            mean = rng.uniform(0.2, 0.8, 3)
            row = {
                **known,
                "file": f"{name}-0000.parquet",
                "row_group": i,
                "x": 32 * i,
                "y": 0,
                "width": 32,
                "height": 32,
                "valid_fraction": 1.0,
                "anomalous_fraction": fraction,
                "channel_mean": mean,
                "channel_mean_square": mean**2 + rng.uniform(0.01, 0.1, 3),
            }
            rows.append(row | changes)
    return pa.Table.from_pylist(rows, INDEX_SCHEMA)


def many(images: int, tiles: int = 5) -> dict[str, list[float] | str]:
    """Every second image has anomalous tiles beside normal ones."""
    return {f"{i:03}": [1.0 if i % 2 and t < 2 else 0.0 for t in range(tiles)] for i in range(images)}


def names(index: pa.Table, rows: np.ndarray) -> set[str]:
    return set(index["image_id"].take(rows).to_pylist())


def fractions(index: pa.Table, rows: np.ndarray) -> np.ndarray:
    return index["anomalous_fraction"].take(rows).to_numpy()


def same(a: TileSets, b: TileSets) -> bool:
    fields = ("train_normal", "train_anomalous", "validation", "validation_labels")
    return all(np.array_equal(getattr(a, field), getattr(b, field)) for field in fields)


# Labels


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.5, 0.7, 1.0])
def test_a_tile_is_anomalous_at_or_over_the_fraction(limit: float) -> None:
    values = [0.0, limit - 0.01, limit, min(1.0, limit + 0.01)]
    index = index_of(dict.fromkeys("abcd", values))
    sets = draw_tile_sets(index, config_of(anomalous_fraction=limit, supervision=0.5))
    assert set(fractions(index, sets.train_normal)) == set(np.float32(values[:2]))
    assert set(fractions(index, sets.train_anomalous)) <= set(np.float32(values[2:]))
    labels = dict(zip(fractions(index, sets.validation), sets.validation_labels, strict=True))
    assert labels == {np.float32(value): value >= limit for value in values}


# The split


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=12), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_the_split_is_by_image_and_uses_every_tile_at_most_once(labels: list[list[bool]], seed: int) -> None:
    index = index_of({f"{i:02}": [float(label) for label in image] for i, image in enumerate(labels)})
    try:
        sets = draw_tile_sets(index, config_of(seed=seed, supervision=0.5))
    except InputError:
        return
    train = np.concatenate([sets.train_normal, sets.train_anomalous])
    assert not names(index, train) & names(index, sets.validation)
    everything = np.concatenate([train, sets.validation])
    assert len(set(everything)) == len(everything)
    assert not fractions(index, sets.train_normal).any()
    assert fractions(index, sets.train_anomalous).all()
    np.testing.assert_array_equal(sets.validation_labels, fractions(index, sets.validation) >= 0.5)
    counts = sets.counts
    assert counts.train_normal == len(sets.train_normal)
    assert counts.train_anomalous == len(sets.train_anomalous) <= counts.train_anomalous_available
    assert counts.validation_anomalous == sets.validation_labels.sum()
    assert counts.tiles == index.num_rows
    assert counts.tiles == (
        counts.train_normal + counts.train_anomalous_available + counts.validation_normal + counts.validation_anomalous
    )


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("images", [4, 5, 7, 20])
def test_both_sides_have_both_classes_where_two_images_of_each_kind_are_there(images: int, fraction: float) -> None:
    for seed in range(10):
        counts = draw_tile_sets(
            index_of(many(images)), config_of(validation_fraction=fraction, seed=seed, supervision=0.5)
        ).counts
        found = counts.train_normal, counts.train_anomalous, counts.validation_normal, counts.validation_anomalous
        assert all(found)


def test_the_validation_fraction_is_of_the_images() -> None:
    index = index_of(many(40))
    sets = draw_tile_sets(index, config_of(validation_fraction=0.25))
    validation = names(index, sets.validation)
    assert len(validation) == 10
    assert sum(int(name) % 2 for name in validation) == 5  # of each kind


@pytest.mark.parametrize("fraction", [0.2, 0.8])
def test_one_image_of_each_kind_is_enough(fraction: float) -> None:
    index = index_of({"clean": [0.0, 0.0], "mixed": [0.0, 1.0]})
    sets = draw_tile_sets(index, config_of(validation_fraction=fraction, supervision=0.5))
    assert names(index, sets.train_anomalous) == names(index, sets.train_normal) == {"mixed"}
    assert names(index, sets.validation) == {"clean"}


@pytest.mark.parametrize(
    "images",
    [
        {"a": [0.0, 0.0, 1.0]},  # one image cannot be on both sides
        {"a": [1.0], "b": [1.0], "c": [1.0]},  # no normal tile
        {"a": [0.0], "b": [1.0]},  # normal tiles in one image only
        {"a": FAILED, "b": [0.0]},
        {"a": FAILED},
        {},
    ],
)
def test_too_little_to_train_on_is_said(images: dict[str, list[float] | str]) -> None:
    with pytest.raises(InputError, match=r"--images /images: \d+ usable tiles .*--anomalous-fraction"):
        draw_tile_sets(index_of(images), config_of())


def test_only_normal_images_train_a_vq_vae() -> None:
    sets = draw_tile_sets(index_of({name: [0.0, 0.0] for name in "abcde"}), config_of())
    assert (sets.counts.train_anomalous, sets.counts.validation_anomalous) == (0, 0)
    assert sets.counts.train_normal == 8


# Gamma


@pytest.mark.parametrize("gamma", [0, 0.01, 0.05, 0.1, 0.2, 0.5])
def test_gamma_is_the_share_of_labelled_anomalies(gamma: float) -> None:
    index = index_of({f"{i:03}": [float(i % 2)] * 20 for i in range(80)})
    sets = draw_tile_sets(index, config_of(supervision=gamma))
    n, m = len(sets.train_normal), len(sets.train_anomalous)
    assert n == sets.counts.train_anomalous_available == 640
    assert m == round(gamma / (1 - gamma) * n)
    assert m / (m + n) == pytest.approx(gamma, abs=0.5 / n)  # to the nearest tile


def test_where_fewer_are_there_all_are_taken() -> None:
    index = index_of({f"{i:03}": [1.0, *[0.0] * 19] if i % 2 else [0.0] * 20 for i in range(20)})
    sets = draw_tile_sets(index, config_of(supervision=0.5))
    assert sets.counts.train_anomalous == sets.counts.train_anomalous_available == 8
    assert sets.counts.train_anomalous / (8 + sets.counts.train_normal) <= 0.5


def test_labelled_anomalies_are_drawn_from_all_images() -> None:
    index = index_of({f"{i:03}": [float(i % 2)] * 20 for i in range(40)})
    sets = draw_tile_sets(index, config_of(supervision=0.2))
    assert sets.counts.train_anomalous == 80
    assert len(names(index, sets.train_anomalous)) > 10  # the first 80 tiles would be of 4 images


def test_every_draw_is_seeded() -> None:
    index = index_of(many(30))
    assert same(draw_tile_sets(index, config_of(seed=1)), draw_tile_sets(index, config_of(seed=1)))
    assert not same(draw_tile_sets(index, config_of(seed=1)), draw_tile_sets(index, config_of(seed=2)))


def test_gamma_does_not_move_the_split() -> None:
    """Else two supervision levels could not be compared."""
    index = index_of(many(30))
    few, all_ = (draw_tile_sets(index, config_of(supervision=gamma)) for gamma in (0.05, 0.5))
    np.testing.assert_array_equal(few.validation, all_.validation)
    np.testing.assert_array_equal(few.train_normal, all_.train_normal)
    assert set(few.train_anomalous) < set(all_.train_anomalous)


# Tiles left out


def test_partly_valid_tiles_are_left_out_and_counted() -> None:
    index = index_of(many(10))
    valid = np.ones(index.num_rows, np.float32)
    valid[[3, 4, 17]] = [0.0, 0.5, 1 - 1 / 1024]
    index = index.set_column(index.schema.get_field_index("valid_fraction"), "valid_fraction", pa.array(valid))
    sets = draw_tile_sets(index, config_of(supervision=0.5))
    used = {*sets.train_normal, *sets.train_anomalous, *sets.validation}
    assert not used & {3, 4, 17}
    counts = sets.counts
    assert counts.partly_valid_tiles_left_out == 3
    assert counts.tiles == 50
    left = counts.train_normal + counts.train_anomalous_available + counts.validation_normal
    assert left + counts.validation_anomalous == 47


def test_an_image_smaller_than_a_cell_is_left_out() -> None:
    """It has no score, and one NaN would spoil the threshold."""
    speck = index_of({"speck": [0.0]}, width=3)
    index = pa.concat_tables([index_of(many(10)), speck])
    sets = draw_tile_sets(index, config_of())
    assert 50 not in {*sets.train_normal, *sets.validation}


def test_failed_images_are_counted_and_not_used() -> None:
    index = index_of({**many(10), "x": FAILED, "y": FAILED})
    sets = draw_tile_sets(index, config_of())
    assert (sets.counts.images, sets.counts.failed_images, sets.counts.tiles) == (10, 2, 50)
    used = np.concatenate([sets.train_normal, sets.train_anomalous, sets.validation])
    assert not names(index, used) & {"x", "y"}
    assert sets.counts.as_dict()["failed_images"] == 2


# Preprocessing


def test_preprocessing_is_the_mean_and_deviation_of_normal_training_pixels() -> None:
    rng = np.random.default_rng(0)
    images = many(8)
    pixels = rng.integers(0, 256, (40, 32, 32, 3)).astype(np.float64) / 255
    pixels *= rng.uniform(0.2, 1, (40, 1, 1, 3))
    index = index_of(images)
    for name, value in {"channel_mean": pixels, "channel_mean_square": pixels**2}.items():
        column = pa.array(list(value.mean((1, 2))), INDEX_SCHEMA.field(name).type)
        index = index.set_column(index.schema.get_field_index(name), name, column)
    sets = draw_tile_sets(index, config_of())
    seen = pixels[sets.train_normal].reshape(-1, 3)
    assert sets.preprocessing.tile_size == 32
    np.testing.assert_allclose(sets.preprocessing.mean, seen.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(sets.preprocessing.std, seen.std(axis=0), rtol=1e-6)


def test_a_constant_channel_does_not_divide_by_0() -> None:
    index = index_of(many(8), channel_mean=[0.5, 0.5, 0.5], channel_mean_square=[0.25, 0.25, 0.25])
    assert min(draw_tile_sets(index, config_of()).preprocessing.std) > 0
