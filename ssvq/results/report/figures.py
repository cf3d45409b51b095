"""What page and PDF share: numbers, times and areas in words, and counts of a survey."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ssvq.results.pictures.heat import FULL_SCALE
from ssvq.results.report.bins import Bins
from ssvq.results.report.data import ReportData
from ssvq.results.report.ground_map import heat_colour
from ssvq.scores.findings import Finding

LEGEND_STEPS = 8


def summarise(data: ReportData) -> dict[str, Any]:
    """Counts of images and tiles. `expected`: expected false alarms at the threshold, or None if unknown."""
    return {
        "expected": None if data.bins is None else _expected_false_alarms(data.bins),
        "scored": len(data.images),
        "failed": len(data.failures),
        "passed_over": data.passed_over,
        "tiles": sum(image.scored_tiles for image in data.images),
        "over": sum(image.over for image in data.images),
        "images_over": sum(image.over > 0 for image in data.images),
    }


def _expected_false_alarms(bins: Bins) -> int | None:
    """Expected false alarms if all tiles were normal: their number times the p-value of the threshold."""
    alarms, normal = sum(bins.normal[bins.at :]), sum(bins.normal)
    return round((1 + alarms) / (1 + normal) * sum(bins.tiles)) if normal else None


def legend_colours(threshold: float) -> list[str]:
    """Colours of the heat from 0 to twice the threshold."""
    return [heat_colour(FULL_SCALE * threshold * i / (LEGEND_STEPS - 1), threshold) for i in range(LEGEND_STEPS)]


def _number(value: float | int | None, digits: int = 4) -> str:
    """Counts with thousands separators; scores with this many digits."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash for nothing
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _share(part: int, whole: int) -> str:
    return "–" if not whole else f"{100 * part / whole:.3g} %"  # noqa: RUF001


def _area(finding: Finding) -> str:
    """The area in square metres if it is known, else in pixels."""
    area = finding.area_m2
    if area is None:
        return f"{finding.area_pixels:,.0f} px"
    text = f"{area:,.0f} m²" if area >= 100 else f"{area:.3g} m²"
    return f"about {text}" if finding.area_from == "camera" else text


def _percent(share: float) -> str:
    return "under 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _time(value: datetime | None) -> str:
    return "unknown" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


FILTERS: dict[str, Callable[..., str]] = {
    "number": _number,
    "share": _share,
    "area": _area,
    "percent": _percent,
    "time": _time,
}
"""Filters of the templates."""
