"""The picture of an evaluation: scores of normal and anomalous tiles, and the ROC curve."""

from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from ssvq.imagery.colour import REFERENCES
from ssvq.model.calibration import ColumnCalibration

BINS = 40
SHOWN = 0.999  # quantile of the scores where the histogram ends, so that a single tile does not squeeze it
NORMAL, ANOMALOUS = "#4477aa", "#ee6677"  # Tol's bright scheme, distinct for colour-blind readers
GREYS = ("#555555", "#999999")
LEGEND: dict[str, Any] = {"framealpha": 0.85, "edgecolor": "none"}


def draw_plot(tiles: pa.Table, calibration: ColumnCalibration, column: str = "score") -> Figure:
    """Histogram and ROC curve of a column of scores of tiles (schema TILES). Without both classes there is no curve."""
    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    histogram, curve = figure.subplots(1, 2, width_ratios=(1.35, 1))
    anomalous, scores = tiles["anomalous"].to_numpy(), tiles[column].to_numpy()
    _draw_histogram(histogram, scores, anomalous, calibration)
    colours = {name: tiles[name].to_numpy() for name in REFERENCES}
    _draw_roc(curve, scores, anomalous, colours)
    for axes in (histogram, curve):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_histogram(
    axes: Axes, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], calibration: ColumnCalibration
) -> None:
    thresholds = {
        f"threshold {calibration.threshold:.4g} ({calibration.rule})": (calibration.threshold, "-"),
        "1 % false alarms in calibration": (calibration.thresholds_at_false_positive_rate["0.01"], "--"),
    }
    lowest = float(scores.min())
    highest = max(float(np.quantile(scores, SHOWN)), *(1.02 * value for value, _ in thresholds.values()))
    edges = np.linspace(lowest, highest, BINS + 1).tolist()
    for name, colour, chosen in (("normal", NORMAL, ~anomalous), ("anomalous", ANOMALOUS, anomalous)):
        count = int(chosen.sum())
        if not count:
            continue
        weights = np.full(count, 100 / count)
        shown = np.minimum(scores[chosen], highest)  # the last bin has all above it
        label = f"{name} ({count:,} tiles)"
        axes.hist(shown, edges, weights=weights, color=colour, alpha=0.55, label=label)
        axes.hist(shown, edges, weights=weights, color=colour, histtype="step", linewidth=1.2)
    for label, (value, style) in thresholds.items():
        axes.axvline(value, color="black", linestyle=style, linewidth=1.2, label=label)
    axes.set_xlim(lowest, highest)
    axes.set_xlabel("score of a tile")
    axes.set_ylabel("% of the tiles of a class")
    axes.set_title("Scores", loc="left")
    axes.legend(**LEGEND)


def _draw_roc(
    axes: Axes, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], colours: dict[str, NDArray[np.float32]]
) -> None:
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title("ROC curve of the tiles", loc="left")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    if anomalous.all() or not anomalous.any():
        axes.text(0.5, 0.5, "needs normal and anomalous tiles", ha="center", va="center", color=GREYS[0])
        return
    axes.plot([0, 1], [0, 1], color="#cccccc", linewidth=1, linestyle=":")
    false, true, _ = roc_curve(anomalous, scores)
    area = roc_auc_score(anomalous, scores)
    axes.plot(false, true, color=ANOMALOUS, linewidth=2.2, label=f"model: {area:.3f}", zorder=3)
    # true + false - 1 rises along the curve from -1 to 1, and where it is 0 both errors are the same.
    equal = float(np.interp(0, true + false - 1, false))
    label = f"equal error rate of the model: {100 * equal:.1f} %"
    axes.plot(equal, 1 - equal, "o", color="black", markersize=7, label=label, zorder=4)
    for (name, values), grey, style in zip(colours.items(), GREYS, ("-", "--"), strict=True):
        false, true, _ = roc_curve(anomalous, values)
        area = roc_auc_score(anomalous, values)
        axes.plot(false, true, color=grey, linestyle=style, linewidth=1.2, label=f"{REFERENCES[name]}: {area:.3f}")
    axes.legend(**LEGEND, loc="lower right", title="AUROC", alignment="left").set_zorder(5)
