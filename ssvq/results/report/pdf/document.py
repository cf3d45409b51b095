"""The HTML of a PDF report, from the numbers and pictures of a survey. WeasyPrint lays it out."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from markupsafe import Markup, escape
from pydantic import ValidationError

import ssvq
from ssvq.model.card import USES, ModelCard, describe, estimate, percent
from ssvq.model.description import Bundle
from ssvq.results.findings.change.told import told_change
from ssvq.results.html import page_template, read_part
from ssvq.results.pictures.heat import FULL_SCALE
from ssvq.results.report.crops import Crop
from ssvq.results.report.data import ReportData
from ssvq.results.report.findings import ReportFindings
from ssvq.results.report.formats import FILTERS, decimals
from ssvq.results.report.ground_map import draw_map, heat_colour
from ssvq.results.report.pdf.engine import FALLBACK, fallback_fonts
from ssvq.results.report.pdf.prints import Cover, Print
from ssvq.results.report.pdf.summary import by_severity, told_findings, told_images, told_since
from ssvq.results.report.settings import Paper
from ssvq.results.report.shown import ReportImage
from ssvq.scores.findings import Finding

MARKED = 60  # findings with a number on the map, the worst
ROWS = 200  # of a table of images, failures or gone findings; the others are counted
LEGEND_STEPS = 8
# Largest heights in millimetres: the cover then fits one page, and summary and map mostly fit another.
COVER_HEIGHT: dict[Paper, int] = {"a4": 116, "letter": 100}
MAP_HEIGHT: dict[Paper, int] = {"a4": 84, "letter": 68}
RUNNING = 52  # characters of a name in the running title


@dataclass(frozen=True)
class DocumentParts:
    """What a document shows."""

    data: ReportData
    findings: ReportFindings | None
    """Without rejected findings."""

    gone: pa.Table | None
    """Findings of an earlier survey that are gone, as rows of FINDINGS; None without an earlier survey."""

    cover: Cover | None
    prints: Sequence[Print]
    """Pictures of the first images."""


def render_document(parts: DocumentParts, title: str, author: str | None, paper: Paper, made: datetime) -> str:
    """The document as HTML. `made`: time of the report, for the document and the metadata of the PDF."""
    data, findings = parts.data, parts.findings
    bins = data.bins
    threshold = None if bins is None else bins.threshold
    listed = [] if findings is None else findings.listed
    filters = {**FILTERS, "estimate": estimate, "known_percent": percent, "code": _code, "running": _running}
    rows = list(data.images)[:ROWS]
    marked = [row.geometry for row, _ in listed[:MARKED]]
    return page_template("ssvq.results.report.pdf/document.html", filters).render(
        css=Markup(style_sheet(paper)),
        data=data,
        summary=data.summary,
        title=title,
        author=author,
        taken=_taken(data.images),
        scored_at=_scored(data),
        findings=findings,
        groups=_groups(listed),
        severities=[] if findings is None else by_severity(findings),
        ranks={} if findings is None else {name: min(i, 3) for i, name in enumerate(findings.severities)},
        told=[list(told_images(data)), list(told_findings(findings))],
        since=told_since(findings, parts.gone),
        told_change=told_change,
        gone=[] if parts.gone is None else Finding.from_table(parts.gone.slice(0, ROWS)),
        all_gone=0 if parts.gone is None else len(parts.gone),
        cover=parts.cover,
        most_high=COVER_HEIGHT[paper],
        prints=list(zip(data.images, parts.prints, strict=False)),
        images=rows,
        decimals=decimals(data.images),
        failures=data.failures[:ROWS],
        reasons=Counter(row.error_message or "unknown" for row in data.failures).most_common(10),
        ground=draw_map([image.on_map for image in data.images], data.tiles_on_map, threshold, marked),
        threshold=threshold,
        legend=None if threshold is None else _legend(threshold),
        calibration=_calibration(data),
        card=_card(data.model),
        uses=USES,
        made=made.astimezone(UTC),
        version=ssvq.__version__,
    )


def style_sheet(paper: Paper) -> str:
    """The CSS of a document. It depends on no survey."""
    size = f"@page {{ size: {'A4' if paper == 'a4' else 'letter'}; }}"
    css = read_part("ssvq.results.report.pdf/document.css").replace("FALLBACK", f'"{FALLBACK}"')
    css = css.replace("MAP_HEIGHT", f"{MAP_HEIGHT[paper]}mm")
    return "\n".join([fallback_fonts(), size, css])


def _groups(listed: Sequence[tuple[Finding, Crop]]) -> list[tuple[str, list[tuple[int, Finding, Crop]]]]:
    """Findings by severity, most severe first, each with its number in the document."""
    groups: dict[str, list[tuple[int, Finding, Crop]]] = {}
    for number, (row, crop) in enumerate(listed, 1):
        groups.setdefault(row.severity, []).append((number, row, crop))
    return list(groups.items())


def _taken(images: Sequence[ReportImage]) -> str | None:
    """The days on which the images were taken, by EXIF; None if unknown."""
    days = sorted(image.captured_at.date() for image in images if image.captured_at is not None)
    return _span(days)


def _scored(data: ReportData) -> str | None:
    times = [row.recorded_at for row in (*data.images, *data.failures) if row.recorded_at is not None]
    return _span(sorted(time.astimezone(UTC).date() for time in times))


def _span(days: Sequence[date]) -> str | None:
    if not days:
        return None
    return f"{days[0]:%Y-%m-%d}" if days[0] == days[-1] else f"{days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"


def _legend(threshold: float) -> list[str]:
    return [heat_colour(FULL_SCALE * threshold * i / (LEGEND_STEPS - 1), threshold) for i in range(LEGEND_STEPS)]


def _calibration(data: ReportData) -> dict[str, Any]:
    """How the threshold was chosen, and how many normal calibration tiles reach it."""
    described = data.model.get("calibration", {})
    if described.get("decides") == "score_worst":
        described = described["worst"]
    bins = data.bins
    normal = [] if bins is None else bins.normal
    return {
        "rule": described.get("rule"),
        "normal": sum(normal),
        "alarms": 0 if bins is None else sum(normal[bins.at :]),
        "tile": data.model.get("preprocessing", {}).get("tile_size"),
        "whole": data.model.get("preprocessing", {}).get("whole_images", False),
    }


def _card(described: dict[str, Any]) -> ModelCard | None:
    """The model card; None if the description is incomplete."""
    try:
        return describe(Bundle.model_validate(described))
    except (ValidationError, KeyError):
        return None


def _code(text: str) -> Markup:
    """A sentence with text between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _running(name: str) -> str:
    """A name cut to fit the running title of a page."""
    return name if len(name) <= RUNNING else f"{name[: RUNNING - 1]}…"
