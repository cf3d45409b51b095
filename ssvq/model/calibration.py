"""Figures of merit of scores against labels, and the thresholds that follow from them."""

import numpy as np
from numpy.typing import NDArray

from ssvq.model.bundle import Calibration, Column, ColumnCalibration

FALSE_POSITIVE_RATES = (0.01, 0.05)


def auroc(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; NaN unless both classes are there. Raises ValueError for scores that are NaN.

    From ranks (Mann and Whitney), since every training worker needs it and scikit-learn takes 1.4 s to import.
    """
    if anomalous.all() or not anomalous.any():
        return float("nan")
    if np.isnan(scores).any():
        raise ValueError("scores are not numbers")
    _, place, number = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(number) - (number - 1) / 2)[place]  # ties have the mean of their ranks
    n = int(anomalous.sum())
    return float((ranks[anomalous].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def average_precision(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """Average precision of the anomalous class; NaN unless both classes are there."""
    if anomalous.all() or not anomalous.any():
        return float("nan")
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(anomalous, scores))


def confusion(scores: NDArray[np.floating], anomalous: NDArray[np.bool_], threshold: float) -> dict[str, int]:
    """Counts of tiles at a threshold; a score at or over it says anomalous."""
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(anomalous, scores >= threshold, labels=[False, True])
    names = ("true_normal", "false_anomalous", "missed_anomalous", "true_anomalous")
    return dict(zip(names, (int(count) for count in matrix.ravel()), strict=True))


def equal_error_rate_threshold(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """The threshold rho of section IV.D: where 1 - FPR and TPR of the ROC curve meet."""
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, thresholds = roc_curve(anomalous, scores, drop_intermediate=False)
    meeting = np.argmin(np.abs(1 - false_positive_rate - true_positive_rate)[1:]) + 1  # the first is infinite
    return float(thresholds[meeting])


def false_positive_threshold(normal: NDArray[np.floating], rate: float) -> float:
    """The threshold that says of a score what its conformal p-value against the normal scores says: at or over it
    are the scores with (1 + normal scores at least as high) / (n + 1) <= `rate`.

    It lies just over the highest normal score with a larger p-value. Where n is so small that no p-value is that
    small it lies just over all normal scores.
    """
    values = np.sort(normal)
    at_least = len(values) - np.searchsorted(values, values, side="left")
    highest = values[(1 + at_least) / (len(values) + 1) > rate].max()
    return float(np.nextafter(np.float32(highest), np.float32(np.inf)))  # scores are float32


def calibrate_columns(scores: NDArray[np.floating], anomalous: NDArray[np.bool_], decides: Column) -> Calibration:
    """Calibration of `score` and `score_worst` (n, 2), the latter NaN for a method without cells."""
    worst = None if np.isnan(scores[:, 1]).any() else calibrate(scores[:, 1], anomalous)
    return Calibration(**dict(calibrate(scores[:, 0], anomalous)), worst=worst, decides=decides)


def calibrate(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> ColumnCalibration:
    """Thresholds and normal scores from validation tiles. Raises ValueError without a normal tile."""
    normal = np.sort(scores[~anomalous].astype(np.float64))
    if len(normal) == 0:
        raise ValueError("calibration needs normal validation tiles")
    at_rate = {f"{rate:g}": false_positive_threshold(normal, rate) for rate in FALSE_POSITIVE_RATES}
    has_anomalies = bool(anomalous.any())
    return ColumnCalibration(
        threshold=equal_error_rate_threshold(scores, anomalous) if has_anomalies else at_rate["0.05"],
        rule="equal error rate" if has_anomalies else "5 % false positives",
        thresholds_at_false_positive_rate=at_rate,
        normal_scores=normal.tolist(),
    )
