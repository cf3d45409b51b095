"""The figures of an evaluation from scored tiles, with intervals: ranking, thresholds, false alarms."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.evaluation.collect import groups_of
from ssvq.imagery.colour import REFERENCES
from ssvq.model.bootstrap import Interval, Multiplicities, Ranking, Statistic, bootstrap, interval
from ssvq.model.calibration import ColumnCalibration
from ssvq.model.metrics import auroc, average_precision, confusion


def tile_figures(
    tiles: pa.Table, calibration: ColumnCalibration, resamples: int, seed: int, column: str = "score"
) -> dict[str, Any]:
    """Figures of a column of scores over tiles (schema TILES); NaN if a class is missing. Intervals are [low, high],
    over images.

    `references`: AUROC of each colour reference, and the model's advantage on the same tiles. `false_positive_rates`:
    share of normal tiles at or over the calibration's threshold of each rate.
    """
    anomalous, scores = _column(tiles, "anomalous"), _column(tiles, column)
    colours = {name: _column(tiles, name) for name in REFERENCES}
    thresholds = calibration.thresholds_at_false_positive_rate
    model = Ranking(scores, anomalous)
    statistics: dict[str, Statistic] = {"auroc": model.auroc, "average_precision": model.average_precision}
    statistics |= {name: Ranking(colour, anomalous).auroc for name, colour in colours.items()}
    rates = {rate: _Share(scores >= threshold, ~anomalous) for rate, threshold in thresholds.items()}
    values = bootstrap(groups_of(tiles), {**statistics, **rates}, resamples, seed)
    once = np.ones(len(tiles), np.int64)

    own = auroc(scores, anomalous)
    references = {}
    for name, colour in colours.items():
        value = auroc(colour, anomalous)
        references[name] = {
            "auroc": value,
            "interval": _pair(interval(values[name])),
            "difference": own - value,
            "difference_interval": _pair(interval(values["auroc"] - values[name])),
        }
    return {
        "auroc": own,
        "average_precision": average_precision(scores, anomalous),
        "colour_threshold_auroc": references["redness"]["auroc"],
        "threshold": calibration.threshold,
        **confusion(scores, anomalous, calibration.threshold),
        "tiles": len(tiles),
        "normal_tiles": int((~anomalous).sum()),
        "anomalous_tiles": int(anomalous.sum()),
        "intervals": {name: _pair(interval(values[name])) for name in ("auroc", "average_precision")},
        "references": references,
        "false_positive_rates": {
            rate: {"threshold": thresholds[rate], "rate": share(once), "interval": _pair(interval(values[rate]))}
            for rate, share in rates.items()
        },
    }


def defect_figures(
    tiles: pa.Table, resamples: int, seed: int, column: str = "score"
) -> dict[str, dict[str, Any]] | None:
    """By a column of scores, the anomalous tiles of each defect class against all normal tiles; None for fewer than two
    classes.

    Tiles below the anomalous share count as normal, whatever defect they have.
    """
    anomalous, scores = _column(tiles, "anomalous"), _column(tiles, column)
    defects = np.array([name or "" for name in tiles["defect"].to_pylist()], dtype=np.str_)
    names = sorted(set(defects[anomalous]) - {""})
    if len(names) < 2:
        return None
    rankings = {name: Ranking(scores, anomalous & (defects == name), ~anomalous) for name in names}
    values = bootstrap(groups_of(tiles), {name: r.auroc for name, r in rankings.items()}, resamples, seed)
    once = np.ones(len(tiles), np.int64)
    return {
        name: {
            "tiles": int((anomalous & (defects == name)).sum()),
            "auroc": rankings[name].auroc(once),
            "interval": _pair(interval(values[name])),
        }
        for name in names
    }


def clear_tiles(tiles: pa.Table, normal_fraction: float) -> pa.Table:
    """The tiles that are anomalous, or normal with at most `normal_fraction` anomalous pixels."""
    few = _column(tiles, "anomalous_fraction") <= np.float32(normal_fraction)
    return tiles.filter(pa.array(few | _column(tiles, "anomalous")))


class _Share:
    """Share of tiles with a property among those that count; NaN if none counts."""

    def __init__(self, having: NDArray[np.bool_], counting: NDArray[np.bool_]) -> None:
        self._counting = np.flatnonzero(counting)
        self._having = np.flatnonzero(having & counting)

    def __call__(self, multiplicities: Multiplicities) -> float:
        counted = int(multiplicities[self._counting].sum())
        return float(multiplicities[self._having].sum() / counted) if counted else float("nan")


def _column(tiles: pa.Table, name: str) -> NDArray[Any]:
    return tiles[name].to_numpy()


def _pair(found: Interval) -> list[float]:
    return [found.low, found.high]
