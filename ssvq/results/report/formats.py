"""Formats of the figures in a report, shared by the page and the PDF."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ssvq.results.report.shown import ReportImage
from ssvq.scores.findings import Finding


def number(value: float | int | None, digits: int = 4) -> str:
    """A count with thousands separators, or a score with `digits` digits."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash for nothing
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


def decimals(images: Sequence[ReportImage]) -> int:
    """Decimals at which the worst score has four digits: one number for the whole column."""
    worst = max((abs(image.worst) for image in images if image.worst), default=1.0)
    return max(0, 3 - math.floor(math.log10(worst)))


def fixed(value: float, decimals: int) -> str:
    """A number with this many decimals."""
    return f"{value:,.{decimals}f}"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent; a dash if the whole is 0."""
    return "–" if not whole else f"{100 * part / whole:.3g} %"  # noqa: RUF001


def area(finding: Finding) -> str:
    """The area of a finding in square metres, or in pixels if that is unknown."""
    known = finding.area_m2
    if known is None:
        return f"{finding.area_pixels:,.0f} px"
    return f"about {square_metres(known)}" if finding.area_from == "camera" else square_metres(known)


def square_metres(area: float) -> str:
    """`1,204 m²`, `0.153 m²`."""
    return f"{area:,.0f} m²" if area >= 100 else f"{area:.3g} m²"


def percent(share: float) -> str:
    """A share in percent, with at most two digits."""
    return "under 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def time(value: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return "unknown" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


FILTERS: dict[str, Callable[..., str]] = {
    "number": number,
    "fixed": fixed,
    "share": share,
    "area": area,
    "percent": percent,
    "time": time,
}
"""Filters for templates."""
