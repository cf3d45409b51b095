"""Which tiles the training sees: labels, the split by image, gamma, and the counts that say so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssvq.config import Architecture, Objective, TrainConfig
from ssvq.errors import InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.training.dataset import TileSets, draw_tile_sets
from ssvq.training.tile_cache import CHANNELS, INDEX_SCHEMA

FAILED = "failed"
HELD_OUT = ("validation", "calibration", "test")


def config_of(**changes: Any) -> TrainConfig:
    return TrainConfig(
        images="/images", masks="/masks", out="/out", tile_size=32, batch_size=8, architecture=Architecture(), **changes
    )


def draw(index: pa.Table, config: TrainConfig, **known: dict[str, str]) -> TileSets:
    """Draw from an index whose image_ids are names; `known` are groups, splits or labels of some images by name."""
    images = []
    for name in dict.fromkeys(index["image_id"].to_pylist()):
        image = Named(f"/images/{name}.png", name, "1", 1)
        images.append(replace(image, **{field: values.get(name) for field, values in known.items()}))
    return draw_tile_sets(index, images, config)


class Named(SourceImage):
    """An image whose identity is its name, so that tests can be read."""

    @property
    def image_id(self) -> str:
        return self.path


def statistics(name: str, values: Any) -> dict[str, float]:
    """Columns of a statistic of the three channels."""
    return {f"{name}_{channel}": float(value) for channel, value in zip(CHANNELS, values, strict=True)}


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
                "file": f"{name}-0000.arrow",
                "batch": 0,
                "row": i,
                "x": 32 * i,
                "y": 0,
                "width": 32,
                "height": 32,
                "valid_fraction": 1.0,
                "anomalous_fraction": fraction,
                **statistics("mean", mean),
                **statistics("mean_square", mean**2 + rng.uniform(0.01, 0.1, 3)),
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
    same_rows = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("train_normal", "train_anomalous"))
    return same_rows and all(np.array_equal(a.held_out[s].rows, b.held_out[s].rows) for s in HELD_OUT)


# Labels


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.5, 0.7, 1.0])
def test_a_tile_is_anomalous_at_or_over_the_fraction(limit: float) -> None:
    values = [0.0, limit - 0.01, limit, min(1.0, limit + 0.01)]
    index = index_of(dict.fromkeys("abcd", values))
    sets = draw(index, config_of(anomalous_fraction=limit, supervision=0.5))
    assert set(fractions(index, sets.train_normal)) == set(np.float32(values[:2]))
    assert set(fractions(index, sets.train_anomalous)) <= set(np.float32(values[2:]))
    for held_out in (sets.held_out["validation"], sets.held_out["calibration"]):
        labels = dict(zip(fractions(index, held_out.rows), held_out.anomalous, strict=True))
        assert labels == {np.float32(value): value >= limit for value in values}


def test_tiles_between_the_fractions_are_left_out_and_counted() -> None:
    index = index_of({name: [0.0, 0.1, 0.11, 0.49, 0.5] for name in "abcdef"})
    sets = draw(index, config_of(normal_fraction=0.1, supervision=0.5))
    assert set(fractions(index, sets.train_normal)) == {np.float32(0), np.float32(0.1)}
    used = np.concatenate([sets.train_normal, sets.train_anomalous, *(sets.held_out[s].rows for s in HELD_OUT)])
    assert not set(fractions(index, used)) & {np.float32(0.11), np.float32(0.49)}
    assert sets.counts.tiles_between_fractions_left_out == 12


def test_a_whole_image_has_the_label_of_its_layout() -> None:
    """A small defect is one all the same; where the layout tells nothing the mask decides."""
    index = index_of({n: [share] for of, share in (("abcd", 0.0), ("efgh", 0.01), ("ijkl", 0.7)) for n in of})
    label = {**dict.fromkeys("abcd", "good"), **dict.fromkeys("efgh", "crack")}
    config = config_of(whole_images=True, normal_fraction=0.0, supervision=0.5)
    sets = draw(index, config, label=label)
    assert names(index, sets.train_normal) <= set("abcd")
    found = set().union(*(names(index, s.rows[s.anomalous]) for s in sets.held_out.values()))
    assert names(index, sets.train_anomalous) | found <= set("efghijkl")
    assert sets.counts.tiles_between_fractions_left_out == 0
    assert sets.preprocessing.whole_images


# The split


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=14),
    st.integers(0, 99),
    st.floats(0, 0.4),
    st.lists(st.integers(0, 4), min_size=14, max_size=14),
)
@settings(max_examples=200, deadline=None)
def test_the_split_is_by_group_and_uses_every_tile_at_most_once(
    labels: list[list[bool]], seed: int, test_fraction: float, group: list[int]
) -> None:
    index = index_of({f"{i:02}": [float(label) for label in image] for i, image in enumerate(labels)})
    groups = {f"{i:02}": f"g{number}" for i, number in enumerate(group) if number}
    try:
        sets = draw(index, config_of(seed=seed, supervision=0.5, test_fraction=test_fraction), group=groups)
    except InputError:
        return
    train = np.concatenate([sets.train_normal, sets.train_anomalous])
    parts = [train, *(sets.held_out[split].rows for split in HELD_OUT)]
    everything = np.concatenate(parts)
    assert len(set(everything)) == len(everything)
    members = [{groups.get(name, name) for name in names(index, part)} for part in parts]
    assert sum(map(len, members)) == len(set().union(*members)), "a group is in one split"
    for split, part in zip(("train", *HELD_OUT), parts, strict=True):
        assert {sets.splits[name] for name in names(index, part)} <= {split}
    assert not fractions(index, sets.train_normal).any()
    assert fractions(index, sets.train_anomalous).all()
    for split in HELD_OUT:
        held_out = sets.held_out[split]
        np.testing.assert_array_equal(held_out.anomalous, fractions(index, held_out.rows) >= 0.5)
        assert getattr(sets.counts, f"{split}_anomalous") == held_out.anomalous.sum()
    counts = sets.counts
    assert counts.train_normal == len(sets.train_normal)
    assert counts.train_anomalous == len(sets.train_anomalous) <= counts.train_anomalous_available
    held_out_tiles = sum(getattr(counts, f"{s}_{kind}") for s in HELD_OUT for kind in ("normal", "anomalous"))
    assert index.num_rows == counts.tiles == counts.train_normal + counts.train_anomalous_available + held_out_tiles


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.3])
@pytest.mark.parametrize("images", [8, 9, 11, 20])
def test_every_split_has_both_classes_where_four_images_of_each_kind_are_there(images: int, fraction: float) -> None:
    fractions_of = {f"{split}_fraction": fraction for split in HELD_OUT}
    for seed in range(10):
        counts = draw(index_of(many(images)), config_of(seed=seed, supervision=0.5, **fractions_of)).counts
        assert all(
            getattr(counts, f"{split}_{kind}") for split in ("train", *HELD_OUT) for kind in ("normal", "anomalous")
        )


def test_the_fractions_are_of_the_images() -> None:
    index = index_of(many(40))
    config = config_of(validation_fraction=0.25, calibration_fraction=0.1, test_fraction=0.3)
    sets = draw(index, config)
    for split, number in (("validation", 10), ("calibration", 4), ("test", 12), ("train", 14)):
        found = {name for name, of in sets.splits.items() if of == split}
        assert len(found) == number
        assert sum(int(name) % 2 for name in found) == number // 2  # of each kind


def test_without_a_test_fraction_nothing_is_held_back() -> None:
    assert "test" not in draw(index_of(many(20)), config_of()).splits.values()


def test_three_images_are_enough() -> None:
    for seed in range(20):
        index = index_of({"clean": [0.0, 0.0], "cleaner": [0.0], "mixed": [0.0, 1.0]})
        counts = draw(index, config_of(seed=seed, supervision=0.5)).counts
        assert all((counts.train_normal, counts.validation_normal, counts.calibration_normal))


def test_given_splits_are_kept_and_the_others_drawn() -> None:
    index = index_of(many(30))
    given_splits = {f"{i:03}": ("test", "train", "calibration")[i % 3] for i in range(15)}
    sets = draw(index, config_of(), split=given_splits)
    assert {name: sets.splits[name] for name in given_splits} == given_splits
    assert {sets.splits[f"{i:03}"] for i in range(15, 30)} == {"train", "validation", "calibration"}


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(InputError, match="group 7 is in the splits test and train: images of one group"):
        draw(index_of(many(9)), config_of(), group={"001": "7", "002": "7"}, split={"001": "test", "002": "train"})


def test_a_manifest_without_calibration_images_says_so() -> None:
    index = index_of(many(9))
    config = TrainConfig(manifest="/m.csv", out="/out", tile_size=32, batch_size=8, architecture=Architecture())
    given_splits = {f"{i:03}": ("train", "validation", "test")[i % 3] for i in range(9)}
    with pytest.raises(InputError, match=r"--manifest /m\.csv.*none for calibration.*in the manifest, or an empty one"):
        draw(index, config, split=given_splits)


@pytest.mark.parametrize(
    "images",
    [
        {"a": [0.0, 0.0, 1.0], "b": [0.0]},  # an image cannot be on two sides
        {"a": [1.0], "b": [1.0], "c": [1.0]},  # no normal tile
        {"a": [0.0], "b": [1.0], "c": [1.0]},  # normal tiles in one image only
        {"a": FAILED, "b": [0.0]},
        {"a": FAILED},
        {},
    ],
)
def test_too_little_to_train_on_is_said(images: dict[str, list[float] | str]) -> None:
    with pytest.raises(InputError, match=r"--images /images: \d+ usable tiles .*--anomalous-fraction"):
        draw(index_of(images), config_of())


def test_only_normal_images_train_a_vq_vae() -> None:
    sets = draw(index_of({name: [0.0, 0.0] for name in "abcde"}), config_of())
    assert (sets.counts.train_anomalous, sets.counts.validation_anomalous) == (0, 0)
    assert sets.counts.train_normal == 6


# How many


def test_held_out_tiles_are_limited_balanced_or_as_they_come() -> None:
    index = index_of({f"{i:03}": [0.0] * 9 + [1.0] * 3 for i in range(40)})
    limits = {f"{split}_tiles": 20 for split in HELD_OUT}
    sets = draw(index, config_of(test_fraction=0.2, **limits))
    assert {split: len(sets.held_out[split].rows) for split in HELD_OUT} == dict.fromkeys(HELD_OUT, 20)
    assert [int(sets.held_out[split].anomalous.sum()) for split in ("validation", "test")] == [10, 10]
    shares = [
        draw(index, config_of(seed=seed, **limits)).held_out["calibration"].anomalous.mean() for seed in range(40)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05), "as the survey has them: a p-value is of its normal tiles"


def test_where_one_class_is_short_the_other_fills_up() -> None:
    index = index_of({f"{i:03}": [1.0, *[0.0] * 9] for i in range(40)})
    held_out = draw(index, config_of(validation_tiles=40)).held_out["validation"]
    assert (len(held_out.rows), int(held_out.anomalous.sum())) == (40, 6)


def test_normal_tiles_are_limited_and_gamma_counts_from_them() -> None:
    index = index_of({f"{i:03}": [float(i % 2)] * 20 for i in range(80)})
    sets = draw(index, config_of(normal_tiles=100, supervision=0.2))
    assert (sets.counts.train_normal, sets.counts.train_normal_available) == (100, 560)
    assert sets.counts.train_anomalous == 25
    assert len(names(index, sets.train_normal)) > 20


# Gamma


@pytest.mark.parametrize("gamma", [0, 0.01, 0.05, 0.1, 0.2, 0.5])
def test_gamma_is_the_share_of_labelled_anomalies(gamma: float) -> None:
    index = index_of({f"{i:03}": [float(i % 2)] * 20 for i in range(80)})
    sets = draw(index, config_of(supervision=gamma))
    n, m = len(sets.train_normal), len(sets.train_anomalous)
    assert n == sets.counts.train_anomalous_available == 560
    assert m == round(gamma / (1 - gamma) * n)
    assert m / (m + n) == pytest.approx(gamma, abs=0.5 / n)  # to the nearest tile


def test_where_fewer_are_there_all_are_taken() -> None:
    index = index_of({f"{i:03}": [1.0, *[0.0] * 19] if i % 2 else [0.0] * 20 for i in range(20)})
    sets = draw(index, config_of(supervision=0.5))
    assert sets.counts.train_anomalous == sets.counts.train_anomalous_available == 6


def test_labelled_anomalies_are_drawn_from_all_images() -> None:
    index = index_of({f"{i:03}": [float(i % 2)] * 20 for i in range(40)})
    sets = draw(index, config_of(supervision=0.2))
    assert sets.counts.train_anomalous == 70
    assert len(names(index, sets.train_anomalous)) > 10  # the first 80 tiles would be of 4 images


def test_every_draw_is_seeded() -> None:
    index = index_of(many(30))
    assert same(draw(index, config_of(seed=1)), draw(index, config_of(seed=1)))
    assert not same(draw(index, config_of(seed=1)), draw(index, config_of(seed=2)))


def test_gamma_does_not_move_the_split() -> None:
    """Else two supervision levels could not be compared."""
    index = index_of(many(30))
    few, all_ = (draw(index, config_of(supervision=gamma)) for gamma in (0.05, 0.5))
    assert few.splits == all_.splits
    np.testing.assert_array_equal(few.train_normal, all_.train_normal)
    assert set(few.train_anomalous) < set(all_.train_anomalous)


# Tiles left out


def test_partly_valid_tiles_are_left_out_and_counted() -> None:
    index = index_of(many(10))
    valid = np.ones(index.num_rows, np.float32)
    valid[[3, 4, 17]] = [0.0, 0.5, 1 - 1 / 1024]
    index = index.set_column(index.schema.get_field_index("valid_fraction"), "valid_fraction", pa.array(valid))
    sets = draw(index, config_of(supervision=0.5))
    used = {*sets.train_normal, *sets.train_anomalous, *(row for s in HELD_OUT for row in sets.held_out[s].rows)}
    assert not used & {3, 4, 17}
    counts = sets.counts
    assert counts.partly_valid_tiles_left_out == 3
    assert counts.tiles == 50
    assert len(used) == 47


def test_an_image_smaller_than_a_cell_is_left_out() -> None:
    """It has no score, and one NaN would spoil the threshold."""
    speck = index_of({"speck": [0.0]}, width=3)
    index = pa.concat_tables([index_of(many(10)), speck])
    sets = draw(index, config_of())
    assert 50 not in {*sets.train_normal, *(row for s in HELD_OUT for row in sets.held_out[s].rows)}


def test_failed_images_are_counted_and_not_used() -> None:
    index = index_of({**many(10), "x": FAILED, "y": FAILED})
    sets = draw(index, config_of())
    assert (sets.counts.images, sets.counts.failed_images, sets.counts.tiles) == (10, 2, 50)
    used = np.concatenate([sets.train_normal, sets.train_anomalous, *(sets.held_out[s].rows for s in HELD_OUT)])
    assert not names(index, used) & {"x", "y"}
    assert sets.counts.as_dict()["failed_images"] == 2


# Preprocessing


def test_preprocessing_is_the_mean_and_deviation_of_normal_training_pixels() -> None:
    rng = np.random.default_rng(0)
    images = many(8)
    pixels = rng.integers(0, 256, (40, 32, 32, 3)).astype(np.float64) / 255
    pixels *= rng.uniform(0.2, 1, (40, 1, 1, 3))
    index = index_of(images)
    for statistic, values in {"mean": pixels, "mean_square": pixels**2}.items():
        for channel, column in zip(CHANNELS, values.mean((1, 2)).T, strict=True):
            name = f"{statistic}_{channel}"
            index = index.set_column(index.schema.get_field_index(name), name, pa.array(column))
    sets = draw(index, config_of())
    seen = pixels[sets.train_normal].reshape(-1, 3)
    assert sets.preprocessing.tile_size == 32
    np.testing.assert_allclose(sets.preprocessing.mean, seen.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(sets.preprocessing.std, seen.std(axis=0), rtol=1e-6)


def test_a_constant_channel_does_not_divide_by_0() -> None:
    index = index_of(many(8), **statistics("mean", [0.5] * 3), **statistics("mean_square", [0.25] * 3))
    assert min(draw(index, config_of()).preprocessing.std) > 0


def test_tiles_labelled_by_hand_are_all_taken_and_replace_what_the_mask_says() -> None:
    """Whatever gamma and --normal-tiles are; a labelled tile is an image of its own here, of the same file."""
    images = many(12) | {"hand 0": [1.0], "hand 1": [0.0]}
    index = index_of(images)
    # Their places are those of the first tiles of images 000 and 001.
    windows = {"hand 0": (0, 0, 32, 32), "hand 1": (0, 0, 32, 32)}
    known = {"window": windows, "split": dict.fromkeys(windows, "train"), "uri": {}}
    known["uri"] = {name: f"/images/{name}.png" for name in images} | {
        "hand 0": "/images/000.png",
        "hand 1": "/images/001.png",
    }
    known["label"] = {"hand 0": "anomalous", "hand 1": "good"}
    known["group"] = {name: f"g{name[-1]}" for name in ("hand 0", "hand 1", "000", "001")}
    drawn = draw(index, config_of(supervision=0, normal_tiles=3), **known)
    assert names(index, drawn.train_anomalous) == {"hand 0"}
    assert "hand 1" in names(index, drawn.train_normal)
    assert len(drawn.train_normal) == 4
    assert (drawn.counts.labelled_normal, drawn.counts.labelled_anomalous) == (1, 1)
    assert {drawn.splits[name] for name in ("000", "001")} == {"train"}
    assert drawn.counts.images == 12
    every = draw(index, config_of(supervision=0.5), **known)
    places = index.select(["image_id", "x"]).to_pylist()
    used = [places[i] for rows in (every.train_normal, every.train_anomalous) for i in rows]
    assert {"image_id": "000", "x": 0} not in used
    assert {"image_id": "001", "x": 0} not in used
    assert {"image_id": "000", "x": 32} in used


@pytest.mark.parametrize("by_cell", [True, False])
def test_labels_of_parts_count_by_cell_or_where_they_make_the_whole_tile_anomalous(by_cell: bool) -> None:
    index = index_of({**many(8), "small": [0.1], "large": [0.7], "normal": [0.3]})
    config = config_of(objective=Objective(labels="cell" if by_cell else "tile"), supervision=0.5)
    images = [Named(f"/images/{name}.png", name, "1", 1) for name in dict.fromkeys(index["image_id"].to_pylist())]
    labels = {"small": "anomalous", "large": "anomalous", "normal": "good"}
    region = {"window": (0, 0, 32, 32), "region": "POLYGON EMPTY", "split": "train"}
    images = [
        replace(image, label=labels[i], **region) if (i := image.image_id) in labels else image for image in images
    ]
    sets = draw_tile_sets(index, images, config)

    def given(rows: Any) -> set[str]:
        return {name for name in index["image_id"].take(rows).to_pylist() if name in labels}

    assert given(sets.train_anomalous) == ({"small", "large"} if by_cell else {"large"})
    assert given(sets.train_normal) == ({"normal"} if by_cell else set())
    assert (sets.counts.labelled_anomalous, sets.counts.labelled_normal) == ((2, 1) if by_cell else (1, 0))
    in_mask = {i for i, flag in zip(index["image_id"].to_pylist(), sets.label_in_mask, strict=True) if flag}
    assert in_mask == (set(labels) if by_cell else set())
