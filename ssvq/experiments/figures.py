"""The pictures of the experiments in one style: AUROC by supervision level or by setting (Fig. 5)."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from ssvq.experiments.cells import COLOURS
from ssvq.experiments.rows import OURS, Row
from ssvq.experiments.tables import Results, at_level, colour_aurocs
from ssvq.io import storage
from ssvq.model.score_plot import GREYS

# Paul Tol's muted scheme, distinct for colour-blind readers; each line also has its own marker and dash.
TOL = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#882255", "#aa4499", "#6699cc", "#661100",
    "#777777", "#4477aa",
)  # fmt: skip
MARKERS = "osD^vPX<>*hp"
OUR_COLOUR = "#cc3311"
DPI = 150


def level_figure(results: Results, rows: Sequence[Row], levels: Sequence[float], data: str) -> Figure:
    """AUROC of every row against the supervision level, with the standard deviation over seeds (Fig. 5)."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(levels))
    others = [row for row in rows if row.name != OURS]
    for number, row in enumerate([*others, *(row for row in rows if row.name == OURS)]):
        ours = row.name == OURS
        shift = 0.0 if ours else 0.012 * (number - len(others) / 2)
        colour = OUR_COLOUR if ours else TOL[number % len(TOL)]
        marker = "o" if ours else MARKERS[number % len(MARKERS)]
        known = [(place, at_level(results, row, gamma, data)) for place, gamma in zip(places, levels, strict=True)]
        known = [(place, figures) for place, figures in known if figures]
        if not known:
            continue
        axes.errorbar(
            [place + shift for place, _ in known],
            [float(np.mean(figures)) for _, figures in known],
            yerr=[float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0 for _, figures in known],
            color=colour,
            marker=marker,
            linestyle="-" if ours or row.uses_anomalies else ":",
            linewidth=3 if ours else 1.4,
            markersize=9 if ours else 6,
            capsize=3,
            label=row.label,
            zorder=4 if ours else 3,
        )
    _draw_colours(axes, results, data)
    axes.axhline(0.5, color="#cccccc", linewidth=1, zorder=1)
    axes.set_xticks(places, [f"{gamma:g}" for gamma in levels])
    axes.set_xlabel("supervision level gamma: share of labelled anomalous tiles in training")
    axes.set_ylabel("AUROC on test images")
    axes.set_title(data.replace("_", " "), loc="left")
    _finish(figure, axes)
    return figure


def row_figure(results: Results, rows: Sequence[Row], gamma: float, data: str) -> Figure:
    """AUROC of every row at one supervision level, as points on a line each: ablations and settings."""
    known = [(row, figures) for row in rows if (figures := at_level(results, row, gamma, data))]
    figure = Figure(figsize=(9, 0.45 * len(known) + 1.6), layout="constrained")
    axes = figure.subplots()
    for place, (row, figures) in enumerate(reversed(known)):
        colour = OUR_COLOUR if row.name == OURS else TOL[0]
        axes.plot(figures, [place] * len(figures), "o", color=colour, alpha=0.35, markersize=5)
        spread = float(np.std(figures, ddof=1)) if len(figures) > 1 else 0.0
        mean = float(np.mean(figures))
        axes.errorbar([mean], [place], xerr=[spread], fmt="D", color=colour, markersize=7, capsize=3)
        axes.annotate(f"{mean:.3f}", (mean, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(known)), [row.label for row, _ in reversed(known)])
    axes.set_ylim(-0.6, len(known) - 0.3)
    for grey, (label, column) in zip(GREYS, COLOURS.items(), strict=True):
        axes.axvline(float(np.mean(colour_aurocs(results, column, data))), color=grey, linestyle="--", label=label)
    axes.set_xlabel(f"AUROC on test images, gamma {gamma:g}")
    axes.set_title(data.replace("_", " "), loc="left")
    _finish(figure, axes)
    return figure


def save(figure: Figure, out: str, name: str) -> list[str]:
    """Write a figure as PNG and as SVG. Returns their addresses."""
    addresses = []
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DPI)
        addresses.append(storage.join(out, f"{name}.{kind}"))
        storage.put(addresses[-1], buffer.getvalue())
    return addresses


def _draw_colours(axes: Axes, results: Results, data: str) -> None:
    for grey, (label, column) in zip(GREYS, COLOURS.items(), strict=True):
        figures = colour_aurocs(results, column, data)
        if figures:
            axes.axhline(float(np.mean(figures)), color=grey, linestyle="--", linewidth=1.4, label=label, zorder=2)


def _finish(figure: Figure, axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    # Without error bars, which clutter a legend; ours comes first, though it is drawn last, over all others.
    lines = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle in handles]
    methods = [i for i, handle in enumerate(handles) if isinstance(handle, ErrorbarContainer)]
    order = [*methods[-1:], *methods[:-1], *(i for i in range(len(labels)) if i not in methods)]
    figure.legend([lines[i] for i in order], [labels[i] for i in order], loc="outside right center", frameon=False)
