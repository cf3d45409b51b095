"""Calibration: scores of normal tiles that the training did not see, and the thresholds that follow from them."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

FALSE_POSITIVE_RATES = (0.01, 0.05)
"""False positive rates whose thresholds are in each bundle."""

DEFAULT_RATE = 0.05
"""Default false positive rate of a bundle's threshold."""

EQUAL_ERROR_RATE: Literal["equal-error-rate"] = "equal-error-rate"

ThresholdRate = float | Literal["equal-error-rate"]
"""A false positive rate, or the rate at which both errors are equally frequent (the paper)."""


class BundlePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Column = Literal["score", "score_worst"]
"""Columns of the score map that may decide what is anomalous."""

COLUMNS: tuple[Column, ...] = get_args(Column)
"""The calibrated columns."""


class ColumnCalibration(BundlePart):
    """Calibration of one column of scores, from tiles of images that neither trained the model nor chose its
    checkpoint.
    """

    threshold: FiniteFloat
    """A score at or over it is anomalous."""

    rule: str
    """The rule that set the threshold, in words: `equal error rate`, or a share of false positives."""

    thresholds_at_false_positive_rate: dict[str, FiniteFloat]
    """Thresholds by false positive rate."""

    normal_scores: list[FiniteFloat]
    """Scores of the normal calibration tiles, ascending."""

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-values (1 + k) / (n + 1), where k of the n normal calibration tiles score at least as high."""
        normal = np.asarray(self.normal_scores)
        at_least = len(normal) - np.searchsorted(normal, np.asarray(scores), side="left")
        return (1 + at_least) / (len(normal) + 1)

    @property
    def false_positive_rate(self) -> float:
        """Expected share of normal tiles at or over the threshold: the conformal p-value of the threshold."""
        return float(self.p_values(self.threshold))


class Calibration(ColumnCalibration):
    """Calibration of `score` and `score_worst`, and which of them decides."""

    worst: ColumnCalibration | None = None
    """Calibration of `score_worst`; None for a method without cells."""

    decides: Column = "score"
    """The column that `is_anomalous` follows."""

    @model_validator(mode="after")
    def _is_there(self) -> "Calibration":
        if self.decides == "score_worst" and self.worst is None:
            raise ValueError("decides by score_worst, which is not calibrated")
        return self

    @property
    def deciding(self) -> ColumnCalibration:
        """Calibration of the deciding column."""
        return self if self.worst is None or self.decides == "score" else self.worst

    def is_anomalous(self, score: ArrayLike, score_worst: ArrayLike) -> NDArray[np.bool_]:
        """Which tiles are anomalous, bool (n,), by the deciding column."""
        return np.asarray(score if self.decides == "score" else score_worst) >= self.deciding.threshold


def equal_error_rate_threshold(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> float:
    """The threshold rho of section IV.D, where 1 - FPR and TPR of the ROC curve meet."""
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, thresholds = roc_curve(anomalous, scores, drop_intermediate=False)
    meeting = np.argmin(np.abs(1 - false_positive_rate - true_positive_rate)[1:]) + 1  # the first is infinite
    return float(thresholds[meeting])


def false_positive_threshold(normal: NDArray[np.floating], rate: float) -> float:
    """The smallest threshold that allows a false positive rate. A score is at or over it exactly if its conformal
    p-value, (1 + normal scores at least as high) / (n + 1), is at most `rate`.

    It lies just over the highest normal score with a larger p-value. If n is too small for the rate, it lies just over
    all normal scores.
    """
    values = np.sort(normal)
    at_least = len(values) - np.searchsorted(values, values, side="left")
    highest = values[(1 + at_least) / (len(values) + 1) > rate].max()
    return float(np.nextafter(np.float32(highest), np.float32(np.inf)))  # scores are float32


def calibrate_columns(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], decides: Column, rate: ThresholdRate = DEFAULT_RATE
) -> Calibration:
    """Calibration of `score` and `score_worst` (n, 2), the latter NaN for a method without cells."""
    worst = None if np.isnan(scores[:, 1]).any() else calibrate(scores[:, 1], anomalous, rate)
    return Calibration(**dict(calibrate(scores[:, 0], anomalous, rate)), worst=worst, decides=decides)


def calibrate(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], rate: ThresholdRate = DEFAULT_RATE
) -> ColumnCalibration:
    """Calibrate one column: scores (n,) of calibration tiles, and which tiles are anomalous, bool (n,).

    The threshold allows the false positive rate `rate`. n normal tiles cannot resolve a rate below 1 / (n + 1). If
    there are too few for the rate, or if it is "equal-error-rate", the equal error rate sets the threshold. Without an
    anomalous tile, the smallest rate that the normal tiles resolve sets it.

    Raises ValueError without a normal tile.
    """
    normal = np.sort(scores[~anomalous].astype(np.float64))
    if len(normal) == 0:
        raise ValueError("calibration needs normal validation tiles")
    at_rate = {f"{rate:g}": false_positive_threshold(normal, rate) for rate in FALSE_POSITIVE_RATES}
    threshold, rule = _choose_threshold(scores, anomalous, normal, rate)
    return ColumnCalibration(
        threshold=threshold,
        rule=rule,
        thresholds_at_false_positive_rate=at_rate,
        normal_scores=normal.tolist(),
    )


def _choose_threshold(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], normal: NDArray[np.float64], rate: ThresholdRate
) -> tuple[float, str]:
    """The threshold, and the rule that set it, in words."""
    least = 1 / (len(normal) + 1)
    is_known = rate != EQUAL_ERROR_RATE and rate >= least
    if anomalous.any() and not is_known:
        return equal_error_rate_threshold(scores, anomalous), "equal error rate"
    allowed = max(DEFAULT_RATE if rate == EQUAL_ERROR_RATE else rate, least)
    return false_positive_threshold(normal, allowed), f"{100 * allowed:.3g} % false positives"
