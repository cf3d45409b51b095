"""The bootstrap: figures of multiplicities, and what its intervals promise."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from ssvq.model.bootstrap import Ranking, bootstrap, interval, paired_auroc_difference


def labelled(rng: np.random.Generator, groups: int, tiles: int, shift: float = 1.0) -> tuple[NDArray, NDArray, NDArray]:
    """Groups, labels and scores of tiles, alike within a group."""
    group = np.repeat(np.arange(groups), tiles)
    anomalous = rng.random(groups * tiles) < 0.3
    scores = rng.normal(size=groups)[group] + 0.3 * rng.normal(size=groups * tiles) + shift * anomalous
    return group, anomalous, scores


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40))
def test_figures_of_multiplicities_are_those_of_repeated_tiles(rows: list[tuple[int, bool, int]]) -> None:
    scores, anomalous, times = (np.array(column) for column in zip(*rows, strict=True))
    ranking = Ranking(scores.astype(float), anomalous)
    repeated_scores, repeated = np.repeat(scores, times), np.repeat(anomalous, times)
    if len(set(repeated)) < 2:
        assert math.isnan(ranking.auroc(times))
        assert math.isnan(ranking.average_precision(times))
        return
    assert ranking.auroc(times) == pytest.approx(roc_auc_score(repeated, repeated_scores))
    assert ranking.average_precision(times) == pytest.approx(average_precision_score(repeated, repeated_scores))


def test_tiles_that_are_neither_are_left_out() -> None:
    scores = np.array([1.0, 2, 3, 9])
    anomalous, normal = np.array([False, False, True, False]), np.array([True, True, False, False])
    assert Ranking(scores, anomalous).auroc(np.ones(4, int)) == pytest.approx(2 / 3)
    assert Ranking(scores, anomalous, normal).auroc(np.ones(4, int)) == 1


def test_resamples_take_whole_groups() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    seen: list[NDArray] = []

    def note(multiplicities: NDArray[np.int64]) -> float:
        seen.append(multiplicities.copy())
        return 0.0

    bootstrap(groups, {"note": note}, resamples=300)
    for multiplicities in seen:
        by_group = {name: set(multiplicities[groups == name]) for name in "abc"}
        assert all(len(times) == 1 for times in by_group.values())
        assert sum(times.pop() for times in by_group.values()) == 3
    mean = np.mean(seen, axis=0)
    np.testing.assert_allclose(mean, 1, atol=0.2)


def test_the_same_seed_gives_the_same_resamples_to_all_statistics() -> None:
    group, anomalous, scores = labelled(np.random.default_rng(0), 20, 5)
    ranking = Ranking(scores, anomalous)
    values = bootstrap(group, {"first": ranking.auroc, "second": ranking.auroc}, resamples=50, seed=3)
    np.testing.assert_array_equal(values["first"], values["second"])
    again = bootstrap(group, {"first": ranking.auroc}, resamples=50, seed=3)
    np.testing.assert_array_equal(values["first"], again["first"])
    other = bootstrap(group, {"first": ranking.auroc}, resamples=50, seed=4)
    assert (values["first"] != other["first"]).any()


def test_an_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    """Of groups of 10 equal tiles: as wide as of one tile a group, not sqrt(10) times narrower."""
    group = np.repeat(np.arange(200), 10)
    scores = np.random.default_rng(0).normal(size=200)[group]
    values = bootstrap(group, {"mean": lambda m: float((m * scores).sum() / m.sum())}, resamples=2000)
    found = interval(values["mean"])
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * scores.std() / math.sqrt(200), rel=0.1)


def test_resamples_without_a_class_are_left_out() -> None:
    group, anomalous = np.arange(4), np.array([True, False, False, False])
    values = bootstrap(group, {"auroc": Ranking(np.array([3.0, 1, 2, 4]), anomalous).auroc}, resamples=200)
    assert np.isnan(values["auroc"]).any()
    found = interval(values["auroc"])
    assert 0 <= found.low <= found.high <= 1


@pytest.mark.parametrize(("groups", "resamples"), [([7, 7, 7], 100), ([1, 2, 3], 0), ([], 10)])
def test_there_is_no_interval_over_one_image_or_without_resamples(groups: list[int], resamples: int) -> None:
    found = interval(bootstrap(groups, {"one": lambda m: 1.0}, resamples)["one"])
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_difference_of_paired_scores_is_surer_than_of_its_parts() -> None:
    rng = np.random.default_rng(1)
    group, anomalous, scores = labelled(rng, 40, 10)
    better = scores + 0.5 * anomalous
    difference = paired_auroc_difference(group, anomalous, better, scores)
    assert difference.value == pytest.approx(roc_auc_score(anomalous, better) - roc_auc_score(anomalous, scores))
    assert 0 < difference.interval.low < difference.value < difference.interval.high
    values = bootstrap(group, {"auroc": Ranking(scores, anomalous).auroc})
    alone = interval(values["auroc"])
    assert difference.interval.high - difference.interval.low < alone.high - alone.low
    reverse = paired_auroc_difference(group, anomalous, scores, better)
    assert reverse.value == pytest.approx(-difference.value)
    assert (reverse.interval.low, reverse.interval.high) == pytest.approx(
        (-difference.interval.high, -difference.interval.low)
    )


def test_equal_scores_differ_by_nothing() -> None:
    group, anomalous, scores = labelled(np.random.default_rng(2), 10, 4)
    difference = paired_auroc_difference(group, anomalous, scores, 2 * scores)
    assert (difference.value, difference.interval.low, difference.interval.high) == (0, 0, 0)


def test_intervals_hold_the_true_value_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth = roc_auc_score(*labelled(rng, 20_000, 5)[1:])
    held = 0
    for _ in range(100):
        group, anomalous, scores = labelled(rng, 60, 5)
        found = interval(bootstrap(group, {"auroc": Ranking(scores, anomalous).auroc}, resamples=200)["auroc"])
        held += found.low <= truth <= found.high
    assert held >= 86  # 95 % of 100, less three standard deviations and what 60 groups cost


def test_a_large_set_takes_seconds() -> None:
    group, anomalous, scores = labelled(np.random.default_rng(4), 800, 200)
    ranking = Ranking(scores, anomalous)
    started = time.process_time()
    bootstrap(group, {"auroc": ranking.auroc, "average_precision": ranking.average_precision}, resamples=100)
    assert time.process_time() - started < 4  # 0.2 s; a sort in every resample would take far longer
