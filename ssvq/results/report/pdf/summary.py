"""The summary of a survey in plain sentences, and its table of severities."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ssvq.results.findings.change.since import ORDER
from ssvq.results.report.data import ReportData
from ssvq.results.report.findings import ReportFindings
from ssvq.results.report.formats import share, square_metres
from ssvq.scores.choose import count
from ssvq.scores.findings import Finding


@dataclass(frozen=True)
class SeverityRow:
    """Findings of one severity."""

    severity: str
    findings: int
    images: int
    area: str


def told_images(data: ReportData) -> Iterator[str]:
    """Sentences on what was analysed."""
    numbers = data.summary
    if not numbers.scored:
        yield "No image was analysed."
    else:
        tiles = count(numbers.tiles, "tile")
        yield f"{count(numbers.scored, 'image')} with {tiles} {_were(numbers.scored)} analysed."
    if numbers.failed:
        yield f"{count(numbers.failed, 'image')} could not be analysed; the reasons are listed under Failed images."
    elif numbers.scored:
        yield "No image failed."
    if numbers.over:
        yield (
            f"{count(numbers.over, 'tile')} ({share(numbers.over, numbers.tiles)}) in "
            f"{count(numbers.images_over, 'image')} {_of(numbers.over, 'reaches', 'reach')} the threshold of the "
            "model."
        )
        if numbers.expected:
            yield f"Up to {count(numbers.expected, 'false alarm')} can be expected in a survey of this size."
    elif numbers.tiles:
        yield "No tile reaches the threshold of the model."


def told_findings(findings: ReportFindings | None) -> Iterator[str]:
    """Sentences on the findings and on what people decided about them."""
    if findings is None:
        yield "No table of findings has been made of this survey, so this report lists no findings."
        return
    rows = findings.rows
    if not rows and not findings.left_out:
        yield "There is no finding: no region of an image reaches the threshold."
        return
    if rows:
        images = len({row.image_id for row in rows})
        severities = Counter(row.severity for row in rows)
        told = ", ".join(f"{severities[name]:,} {name}" for name in findings.severities)
        are = _of(len(rows), "is", "are")
        yield f"There {are} {count(len(rows), 'finding')} in {count(images, 'image')}: {told}."
        yield _told_area(rows)
        yield _told_states(rows)
    else:
        yield "There is no finding left after the review."
    if findings.left_out:
        told = count(findings.left_out, "further finding" if rows else "finding")
        as_what = _of(findings.left_out, "a false alarm and is", "false alarms and are")
        yield f"{told} {_were(findings.left_out)} rejected by a person as {as_what} not listed."


def told_since(findings: ReportFindings | None, gone: pa.Table | None) -> str | None:
    """A sentence on changes since an earlier survey; None without a comparison."""
    rows = [] if findings is None else [row for row in findings.rows if row.previous_survey is not None]
    lost = 0 if gone is None else len(gone)
    earlier = {row.previous_survey for row in rows if row.previous_survey is not None}
    earlier |= set() if gone is None else set(gone["previous_survey"].to_pylist())
    if not earlier:
        return None
    changes = Counter(row.change for row in rows)
    told = [f"{changes[name]:,} {_of(changes[name], 'is', 'are')} {name}" for name in ORDER if changes[name]]
    if changes[None]:
        told.append(f"{changes[None]:,} {_of(changes[None], 'lies', 'lie')} at places that it did not show")
    if lost:
        told.append(f"{lost:,} of its findings {_of(lost, 'is', 'are')} no longer found")
    return f"Compared with the earlier survey {', '.join(sorted(earlier))}: {', '.join(told)}."


def by_severity(findings: ReportFindings) -> list[SeverityRow]:
    """A row for each severity, most severe first."""
    table = []
    for severity in findings.severities:
        rows = [row for row in findings.rows if row.severity == severity]
        table.append(SeverityRow(severity, len(rows), len({row.image_id for row in rows}), _area_of(rows)))
    return table


def _told_area(rows: Sequence[Finding]) -> str:
    known = [row.area_m2 for row in rows if row.area_m2 is not None]
    without = len(rows) - len(known)
    if not known:
        return f"{_of(without, 'Its', 'Their')} area in square metres is not known; it is given in pixels."
    is_estimate = any(row.area_from == "camera" for row in rows)
    area = ("about " if is_estimate else "") + square_metres(sum(known))
    if not without:
        return f"It covers {area}." if len(rows) == 1 else f"Together they cover {area}."
    covers = _of(len(known), "covers", "cover")
    return f"{count(len(known), 'finding')} of known area {covers} {area}; that of {without:,} is known in pixels only."


def _area_of(rows: Sequence[Finding]) -> str:
    known = [row.area_m2 for row in rows if row.area_m2 is not None]
    if not known:
        return "not known"
    part = "" if len(known) == len(rows) else f" ({len(known):,} of {len(rows):,})"
    return square_metres(sum(known)) + part


def _told_states(rows: Sequence[Finding]) -> str:
    states = Counter(row.state for row in rows)
    told = [f"{states[name]:,} {_were(states[name])} {name}" for name in ("confirmed", "resolved") if states[name]]
    if not told:
        return f"No person has reviewed {_of(len(rows), 'it', 'them')} yet."
    if states["new"]:
        told.append(f"{states['new']:,} {_of(states['new'], 'has', 'have')} not been reviewed yet")
    return f"By a person's review, {', '.join(told)}."


def _were(number: int) -> str:
    return _of(number, "was", "were")


def _of(number: int, one: str, several: str) -> str:
    """The word for a number: singular or plural."""
    return one if number == 1 else several
