"""The findings of a report: rows of the table for unchanged images, and the data for page and script."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import shapely

from ssvq.imagery.pixel_rule import PixelRule
from ssvq.results.findings.stored import read_findings
from ssvq.results.report.crops import Crop, make_crops, version_of_image
from ssvq.results.report.pictures import Picture
from ssvq.scores.findings import STATES, Finding
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import ImageRow


@dataclass(frozen=True)
class ReportFindings:
    """The findings of a partition on a page."""

    rows: list[Finding]
    """Those of scored and unchanged images; worst first."""
    crops: list[Crop]
    """Close-ups of the first rows, as many as the page lists."""
    is_current: bool
    """Whether the table was made from the current scores."""

    @property
    def listed(self) -> list[tuple[Finding, Crop]]:
        """The listed rows with their close-ups."""
        return list(zip(self.rows, self.crops, strict=False))

    @property
    def severities(self) -> list[str]:
        """The severities, worst first."""
        return list(dict.fromkeys(row.severity for row in self.rows))


def make_findings(
    partition: Partition, state: str | None, images: Sequence[ImageRow], rule: PixelRule, most: int
) -> ReportFindings | None:
    """The findings of a partition, the worst `most` of them with a close-up; None without a table.

    `state`: the current state of the ledger. `images`: the scored images. Raises InputError for a damaged table.
    """
    found = read_findings(partition)
    if found is None:
        return None
    table, made_from = found
    known = {version_of_image(image): image for image in images}
    rows = [finding for finding in Finding.from_table(table) if version_of_image(finding) in known]
    return ReportFindings(rows, make_crops(rows[:most], known, rule), made_from == state)


def template_parts(findings: ReportFindings) -> dict[str, Any]:
    """Variables of the template besides the findings."""
    severities = findings.severities
    worst = sum(row.severity == severities[0] for row in findings.rows) if severities else 0
    return {
        "states": STATES,
        "severities": severities,
        "has_change": any(row.change for row in findings.rows),
        "told_findings": f"{worst:,} {severities[0]}" if severities else "",
    }


def script_data(
    findings: ReportFindings | None, images: Sequence[ImageRow], pictures: Sequence[Picture]
) -> list[dict[str, Any]]:
    """What the script needs about each listed finding: its entry in the file of decisions, and its position.

    `image`: index of its image among those with pictures, or None.
    """
    if findings is None:
        return []
    shown = {
        version_of_image(image): position
        for position, (image, picture) in enumerate(zip(images, pictures, strict=False))
        if picture.problem is None
    }
    names = ("finding_id", "image_id", "fingerprint", "state", "decided_by", "note")
    return [
        {name: getattr(row, name) for name in names}
        | {
            "decided_at": None if row.decided_at is None else _as_script_says(row.decided_at),
            "outline": shapely.to_wkt(row.region, rounding_precision=3, trim=True),
            "box": [row.x, row.y, row.width, row.height],
            "crop": [crop.x, crop.y, crop.width, crop.height],
            "image": shown.get(version_of_image(row)),
        }
        for row, crop in findings.listed
    ]


def _as_script_says(when: datetime) -> str:
    """A time in UTC in the form of JavaScript's `toISOString`, so that both compare as text."""
    return f"{when.strftime('%Y-%m-%dT%H:%M:%S')}.{when.microsecond // 1000:03}Z"
