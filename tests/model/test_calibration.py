"""Figures of merit and thresholds against slow references."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssvq.model.calibration import (
    FALSE_POSITIVE_RATES,
    ColumnCalibration,
    calibrate,
    equal_error_rate_threshold,
    false_positive_threshold,
)
from ssvq.model.metrics import auroc, average_precision, confusion

# Few distinct values, so that ties are common.
SCORES = st.lists(st.integers(0, 8).map(lambda n: n / 2), min_size=1, max_size=40)
LABELLED = st.lists(st.tuples(st.integers(0, 8).map(lambda n: n / 2), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def arrays(rows: list[tuple[float, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores, labels = zip(*rows, strict=True)
    return np.array(scores), np.array(labels)


def calibration_of(normal: list[float]) -> ColumnCalibration:
    return calibrate(np.array(normal), np.zeros(len(normal), bool))


# Ranking


@given(LABELLED)
def test_auroc_is_the_chance_that_an_anomaly_scores_higher(rows: list[tuple[float, bool]]) -> None:
    scores, labels = arrays(rows)
    pairs = [(a, n) for a in scores[labels] for n in scores[~labels]]
    assert auroc(scores, labels) == pytest.approx(np.mean([1.0 if a > n else 0.5 if a == n else 0.0 for a, n in pairs]))


@given(LABELLED)
def test_average_precision_is_the_mean_of_precision_over_recall(rows: list[tuple[float, bool]]) -> None:
    scores, labels = arrays(rows)
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        recall = (said & labels).sum() / labels.sum()
        area += (recall - recall_before) * (said & labels).sum() / said.sum()
        recall_before = recall
    assert average_precision(scores, labels) == pytest.approx(area)


@pytest.mark.parametrize("labels", [[False, False], [True, True], []])
def test_ranking_needs_both_classes(labels: list[bool]) -> None:
    scores, anomalous = np.arange(len(labels), dtype=float), np.array(labels, bool)
    assert math.isnan(auroc(scores, anomalous))
    assert math.isnan(average_precision(scores, anomalous))


# Thresholds


@given(LABELLED, st.integers(0, 8).map(lambda n: n / 2))
def test_a_score_at_the_threshold_is_anomalous(rows: list[tuple[float, bool]], threshold: float) -> None:
    scores, labels = arrays(rows)
    slow = {"true_normal": 0, "false_anomalous": 0, "missed_anomalous": 0, "true_anomalous": 0}
    for score, anomalous in rows:
        if score >= threshold:
            slow["true_anomalous" if anomalous else "false_anomalous"] += 1
        else:
            slow["missed_anomalous" if anomalous else "true_normal"] += 1
    assert confusion(scores, labels, threshold) == slow


def test_confusion_of_one_class_has_all_counts() -> None:
    counts = confusion(np.array([1.0, 3.0]), np.array([False, False]), 2.0)
    assert counts == {"true_normal": 1, "false_anomalous": 1, "missed_anomalous": 0, "true_anomalous": 0}


@given(LABELLED)
def test_the_threshold_is_where_1_less_fpr_meets_tpr(rows: list[tuple[float, bool]]) -> None:
    scores, labels = arrays(rows)

    def apart(threshold: float) -> float:
        said = scores >= threshold
        return abs(1 - said[~labels].mean() - said[labels].mean())

    found = equal_error_rate_threshold(scores, labels)
    assert found in scores
    assert apart(found) == pytest.approx(min(apart(score) for score in scores), abs=1e-12)


def test_the_threshold_of_separate_classes_lies_at_the_lowest_anomaly() -> None:
    assert equal_error_rate_threshold(np.array([1.0, 2, 3, 7, 8]), np.array([0, 0, 0, 1, 1], bool)) == 7


@given(SCORES, SCORES, st.sampled_from([*FALSE_POSITIVE_RATES, 0.2, 0.5]))
def test_threshold_and_p_value_say_the_same(normal: list[float], others: list[float], rate: float) -> None:
    """Of scores that are among the normal ones, between them, just over one of them, and beyond all."""
    calibration = calibration_of(normal)
    threshold = false_positive_threshold(np.array(normal), rate)
    scores = np.array([*others, *normal, *(n + 0.25 for n in normal), -1.0, 1e6], np.float32)
    scores = np.concatenate([scores, np.nextafter(scores, np.float32(np.inf))])
    if 1 / (len(normal) + 1) <= rate:
        np.testing.assert_array_equal(scores >= threshold, calibration.p_values(scores) <= rate)
    else:  # no p-value is that small
        np.testing.assert_array_equal(scores >= threshold, scores > max(normal))


@pytest.mark.parametrize(("n", "false_alarms"), [(10, 0), (19, 0), (38, 0), (39, 1), (99, 4), (100, 4), (999, 49)])
def test_as_many_false_alarms_as_the_rate_allows(n: int, false_alarms: int) -> None:
    calibration = calibration_of([float(i) for i in range(n)])
    threshold = calibration.thresholds_at_false_positive_rate["0.05"]
    assert (np.arange(n, dtype=np.float32) >= threshold).sum() == false_alarms


def test_the_threshold_allows_5_percent_false_positives_whatever_the_anomalies_score() -> None:
    scores = np.arange(120.0)
    calibration = calibrate(scores, scores >= 100)
    assert calibration.rule == "5 % false positives"
    assert calibration == calibration_of(scores[:100]).model_copy()
    assert 0.04 < calibration.false_positive_rate <= 0.05
    asked = calibrate(scores, scores >= 100, 0.125)
    assert asked.rule == "12.5 % false positives"
    assert (scores[:100] >= asked.threshold).sum() == 11  # (1 + 11) / 101 is under 12.5 %, (1 + 12) / 101 over it
    assert asked.false_positive_rate == pytest.approx(12 / 101)


def test_the_threshold_of_the_paper_is_that_of_equal_errors() -> None:
    scores = np.arange(120.0)
    labels = scores >= 90
    labels[95:105] = False
    calibration = calibrate(scores, labels, "equal-error-rate")
    assert calibration.rule == "equal error rate"
    assert calibration.threshold == equal_error_rate_threshold(scores, labels)


def test_too_few_normal_tiles_for_the_rate_mean_equal_errors() -> None:
    scores, labels = np.array([4.0, 1, 3, 2, 9, 8]), np.array([0, 0, 0, 0, 1, 1], bool)
    calibration = calibrate(scores, labels)
    assert calibration.rule == "equal error rate"
    assert calibration.threshold == equal_error_rate_threshold(scores, labels)
    assert calibration.normal_scores == [1, 2, 3, 4]
    assert set(calibration.thresholds_at_false_positive_rate) == {"0.01", "0.05"}


def test_calibration_without_anomalies_allows_5_percent_false_positives() -> None:
    calibration = calibration_of([float(i) for i in range(100)])
    assert calibration.rule == "5 % false positives"
    assert calibration.threshold == calibration.thresholds_at_false_positive_rate["0.05"]
    assert calibration.threshold == pytest.approx(95)  # just over it: (1 + 5) / 101 is over 5 %


def test_the_rule_names_the_rate_that_few_normal_tiles_know() -> None:
    calibration = calibration_of([1.0, 2.0, 3.0])
    assert calibration.rule == "25 % false positives"
    assert calibration.threshold == pytest.approx(3.0)
    assert calibration.false_positive_rate == 0.25


def test_calibration_needs_normal_tiles() -> None:
    with pytest.raises(ValueError, match="normal"):
        calibrate(np.array([1.0]), np.array([True]))


# p-values


@given(SCORES, SCORES)
def test_p_values_count_normal_scores_at_least_as_high(normal: list[float], scores: list[float]) -> None:
    slow = [(1 + sum(other >= score for other in normal)) / (len(normal) + 1) for score in scores]
    assert calibration_of(normal).p_values(np.array(scores)).tolist() == slow


def test_p_values_fall_with_the_score_and_are_never_0() -> None:
    p_values = calibration_of([1.0, 2, 3]).p_values(np.array([0.0, 1.5, 2.5, 1e9], np.float32))
    assert p_values.tolist() == [1.0, 0.75, 0.5, 0.25]


def test_p_values_of_normal_tiles_are_valid() -> None:
    """Of exchangeable scores at most a share alpha has p <= alpha, and hardly fewer."""
    rng = np.random.default_rng(0)
    p_values = np.concatenate(
        [calibration_of(list(rng.gamma(2, size=99))).p_values(rng.gamma(2, size=99)) for _ in range(200)]
    )
    for alpha in (0.01, 0.05, 0.1, 0.5):
        assert (p_values <= alpha).mean() == pytest.approx(alpha, rel=0.15)
