"""The report of `ssvq evaluate` for a person."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssvq.evaluation.regions import FALSE_POSITIVE_LIMIT
from ssvq.imagery.colour import REFERENCES
from ssvq.model.bootstrap import CONFIDENCE

WIDTH = 100


def print_report(report: dict[str, Any]) -> None:
    """Print the result of `evaluate_model` in sections; undefined figures are left out."""
    console = Console(width=WIDTH, highlight=False, markup=False)  # a defect's name may hold brackets
    failed = f" ({report['failed_images']} failed)" if report["failed_images"] else ""
    console.print(f"Model {report['model_id']} on {report['images']} images{failed}")
    limit = f"anomalous at or over {_percent(report['anomalous_fraction'])} anomalous pixels"
    whole = f"A tile is a whole image. It has the label of its folder or manifest; without one it is {limit}"
    console.print(whole if report["whole_images"] else f"A tile is {limit}")
    columns = ", ".join(f"{name} {figure:.3f}" for name, figure in report["auroc_by_column"].items())
    console.print(f"Decided by {report['decided_by']} (AUROC: {columns})\n")
    _print_tiles(console, "All tiles", report)
    clear = report["clear_tiles"]
    if clear is not None:
        title = f"Clear tiles only: normal ones have at most {_percent(clear['normal_fraction'])} anomalous pixels"
        _print_tiles(console, title, clear)
    if report["by_defect"] is not None:
        console.print(_section("By defect, each against all normal tiles", _defects(report["by_defect"])))
    if report["pixel_auroc"] is not None:
        console.print(_section(f"Pixels, {report['regions']} anomalous regions", _pixels(report)))
    if report["bootstrap"]:
        console.print(
            f"In brackets: {_percent(CONFIDENCE)} intervals from {report['bootstrap']} resamples of the images",
            style="dim",
        )


def _print_tiles(console: Console, title: str, figures: dict[str, Any]) -> None:
    counts = f"{figures['tiles']:,} tiles: {figures['normal_tiles']:,} normal, {figures['anomalous_tiles']:,} anomalous"
    console.print(_section(title, counts, _ranking(figures), _confusion(figures), _rates(figures)))


def _section(title: str, *parts: RenderableType) -> Group:
    spaced = [line for part in parts for line in (part, "")]
    return Group(Text(title, style="bold"), *spaced)


def _ranking(figures: dict[str, Any]) -> Table:
    intervals = figures["intervals"]
    table = _table("", "AUROC", "model higher by")
    table.add_row("model", estimate(figures["auroc"], intervals["auroc"]), "")
    for name, reference in figures["references"].items():
        table.add_row(
            REFERENCES[name],
            estimate(reference["auroc"], reference["interval"]),
            estimate(reference["difference"], reference["difference_interval"], signed=True),
        )
    precision = estimate(figures["average_precision"], intervals["average_precision"])
    table.add_section()
    table.add_row("average precision of the model", precision, "")
    return table


def _confusion(figures: dict[str, Any]) -> Table:
    table = _table(f"at the threshold of {figures['threshold']:.4g}", "said normal", "said anomalous")
    table.add_row("normal", f"{figures['true_normal']:,}", f"{figures['false_anomalous']:,}")
    table.add_row("anomalous", f"{figures['missed_anomalous']:,}", f"{figures['true_anomalous']:,}")
    return table


def _rates(figures: dict[str, Any]) -> Table:
    table = _table("false alarms in calibration", "threshold", "here, of normal tiles")
    for asked, found in figures["false_positive_rates"].items():
        rate = estimate(100 * found["rate"], [100 * bound for bound in found["interval"]], digits=1, unit=" %")
        table.add_row(f"at most {_percent(float(asked))}", f"{found['threshold']:.4g}", rate)
    return table


def _defects(by_defect: dict[str, dict[str, Any]]) -> Table:
    table = _table("defect", "tiles", "AUROC")
    for name, found in by_defect.items():
        table.add_row(name, f"{found['tiles']:,}", estimate(found["auroc"], found["interval"]))
    return table


def _pixels(report: dict[str, Any]) -> Table:
    table = _table("", "")
    table.add_row("AUROC of the pixels", estimate(report["pixel_auroc"]))
    table.add_row(f"AUPRO, up to {_percent(FALSE_POSITIVE_LIMIT)} false positives", estimate(report["aupro"]))
    return table


def _table(*columns: str) -> Table:
    """A table whose first column is text and whose other columns are figures."""
    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def estimate(
    value: float, interval: Sequence[float] = (), *, digits: int = 3, unit: str = "", signed: bool = False
) -> str:
    """A figure with its interval, if there is one: `0.812 (0.780 to 0.840)`."""
    if math.isnan(value):
        return "-"
    sign = "+" if signed else ""
    text = f"{value:{sign}.{digits}f}{unit}"
    if not interval or any(math.isnan(bound) for bound in interval):
        return text
    low, high = (f"{bound:{sign}.{digits}f}" for bound in interval)
    return f"{text} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
