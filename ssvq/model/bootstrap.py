"""The uncertainty of a figure: bootstrap over groups of tiles (Efron 1979).

Tiles of one photograph are alike, so drawing single tiles would give intervals that are far too narrow. A resample
draws whole groups (photographs, or parts that were photographed several times) with replacement. A statistic gets it as
multiplicities: how often each tile occurs in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95

Multiplicities = NDArray[np.int64]
Statistic = Callable[[Multiplicities], float]


@dataclass(frozen=True)
class Interval:
    """A percentile interval; NaN if it is undefined."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    interval: Interval


class Ranking:
    """Scores of tiles against labels, sorted once so that figures of many resamples are fast.

    `scores` float (n,); `anomalous` bool (n,); `normal` bool (n,), by default all others. Tiles that are neither are
    left out. Sums of products avoid matrix products: BLAS threads cost more here than they save.
    """

    def __init__(
        self, scores: NDArray[np.floating], anomalous: NDArray[np.bool_], normal: NDArray[np.bool_] | None = None
    ) -> None:
        self._anomalous = _ascending(scores, anomalous)
        self._normal = _ascending(scores, ~anomalous if normal is None else normal)
        high, low = scores[self._anomalous], scores[self._normal]
        self._normal_below = np.searchsorted(low, high, side="left")
        self._normal_up_to = np.searchsorted(low, high, side="right")
        self._anomalous_below = np.searchsorted(high, high, side="left")

    def auroc(self, multiplicities: Multiplicities) -> float:
        """Area under the ROC curve, with each tile counted as often as it is taken; NaN unless both classes occur."""
        taken, normal = multiplicities[self._anomalous], _running_sum(multiplicities[self._normal])
        pairs = int(taken.sum()) * int(normal[-1])
        if pairs == 0:
            return float("nan")
        lower = (normal[self._normal_below] + normal[self._normal_up_to]) / 2  # a tie counts half
        return float((taken * lower).sum() / pairs)

    def average_precision(self, multiplicities: Multiplicities) -> float:
        """Average precision, with each tile counted as often as it is taken; NaN unless both classes occur."""
        taken, normal = multiplicities[self._anomalous], _running_sum(multiplicities[self._normal])
        anomalous = _running_sum(taken)
        if anomalous[-1] == 0 or normal[-1] == 0:
            return float("nan")
        true = anomalous[-1] - anomalous[self._anomalous_below]  # called anomalous at the score of each anomalous tile
        false = normal[-1] - normal[self._normal_below]
        precision = true / np.maximum(true + false, 1)  # 0 / 0 only for tiles that are not taken
        return float((taken * precision).sum() / anomalous[-1])


def bootstrap(
    groups: ArrayLike, statistics: Mapping[str, Statistic], resamples: int = 1000, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """The values of each statistic over resamples of the groups, float64 (resamples,).

    `groups` (n,): the group of each tile, a name or a number. A statistic takes multiplicities, int64 (n,), and returns
    a number, or NaN for a resample that lacks what it needs. All statistics see the same resamples, so differences of
    their values are paired. Fewer than two groups give no value.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    count = len(names)
    values = {name: np.full(resamples if count > 1 else 0, np.nan) for name in statistics}
    rng = np.random.default_rng(seed)
    for resample in range(len(next(iter(values.values()), ()))):
        multiplicities = rng.multinomial(count, np.full(count, 1 / count))[index]
        for name, statistic in statistics.items():
            values[name][resample] = statistic(multiplicities)
    return values


def interval(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of a statistic's values over resamples; NaN values are left out."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def paired_auroc_difference(
    groups: ArrayLike,
    anomalous: NDArray[np.bool_],
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """AUROC of the first scores minus that of the second on the same tiles, and its interval over the same resamples.

    All arrays are (n,). The difference is NaN unless both classes occur.
    """
    rankings = {"first": Ranking(first, anomalous), "second": Ranking(second, anomalous)}
    once = np.ones(len(anomalous), np.int64)
    values = bootstrap(groups, {name: ranking.auroc for name, ranking in rankings.items()}, resamples, seed)
    difference = rankings["first"].auroc(once) - rankings["second"].auroc(once)
    return Estimate(difference, interval(values["first"] - values["second"]))


def _ascending(scores: NDArray[np.floating], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the chosen tiles, in ascending order of their scores."""
    positions = np.flatnonzero(chosen)
    return positions[np.argsort(scores[positions], kind="stable")]


def _running_sum(counts: Multiplicities) -> Multiplicities:
    """Entry i is the sum of the first i counts."""
    return np.concatenate([[0], np.cumsum(counts)])
