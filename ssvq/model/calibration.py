"""What scores a model gives to normal tiles that it was not trained on, and the thresholds that follow from them."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

FALSE_POSITIVE_RATES = (0.01, 0.05)


class BundlePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Column = Literal["score", "score_worst"]
"""Of the score map, which may decide what is anomalous."""

COLUMNS: tuple[Column, ...] = get_args(Column)
"""The columns of scores that are calibrated."""


class ColumnCalibration(BundlePart):
    """What the values of a column of scores mean, from calibration tiles: of images that neither the training nor the
    choice of the checkpoint saw.
    """

    threshold: FiniteFloat
    """Scores at or over it are anomalous."""

    rule: Literal["equal error rate", "5 % false positives"]
    """How the threshold was chosen; the second where no calibration tile is anomalous."""

    thresholds_at_false_positive_rate: dict[str, FiniteFloat]
    """Thresholds at given shares of false alarms among normal tiles."""

    normal_scores: list[FiniteFloat]
    """Scores of the normal calibration tiles, ascending."""

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-values (1 + k) / (n + 1), k of the n normal calibration tiles scoring at least as high."""
        normal = np.asarray(self.normal_scores)
        at_least = len(normal) - np.searchsorted(normal, np.asarray(scores), side="left")
        return (1 + at_least) / (len(normal) + 1)


class Calibration(ColumnCalibration):
    """What `score` means, and `score_worst`, and which of them decides."""

    worst: ColumnCalibration | None = None
    """Of `score_worst`; None where the method has no cells."""

    decides: Column = "score"
    """The column that `is_anomalous` follows."""

    @model_validator(mode="after")
    def _is_there(self) -> "Calibration":
        if self.decides == "score_worst" and self.worst is None:
            raise ValueError("decides by score_worst, which is not calibrated")
        return self

    @property
    def deciding(self) -> ColumnCalibration:
        """Of the column that decides."""
        return self if self.worst is None or self.decides == "score" else self.worst

    def is_anomalous(self, score: ArrayLike, score_worst: ArrayLike) -> NDArray[np.bool_]:
        """Which tiles are anomalous, bool (n,), by the column that decides."""
        return np.asarray(score if self.decides == "score" else score_worst) >= self.deciding.threshold


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
