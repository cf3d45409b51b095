"""The findings of a report: those whose images have not changed, and their data for the page and its script."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import shapely

from ssvq.imagery.pixel_rule import PixelRule
from ssvq.results.findings.stored import read_findings
from ssvq.results.report.crops import ON_PAGE, Crop, CropFormat, make_crops, version_of_image
from ssvq.results.report.pictures import Picture
from ssvq.scores.findings import STATES, Finding, State
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import ImageRow


@dataclass(frozen=True)
class ReportFindings:
    """Findings of a partition in a report."""

    rows: list[Finding]
    """Those of images that are scored and have not changed; worst first."""
    crops: list[Crop]
    """Close-ups of the first rows: of those that the report lists."""
    is_current: bool
    """Whether the table was made from the current scores."""
    left_out: int = 0
    """Number of findings that were left out because of their state."""

    @property
    def listed(self) -> list[tuple[Finding, Crop]]:
        """The findings that the report lists, with their close-ups."""
        return list(zip(self.rows, self.crops, strict=False))

    @property
    def severities(self) -> list[str]:
        """The severities, most severe first."""
        return list(dict.fromkeys(row.severity for row in self.rows))


def make_findings(
    partition: Partition,
    state: str | None,
    images: Sequence[ImageRow],
    rule: PixelRule,
    most: int,
    form: CropFormat = ON_PAGE,
    without: Collection[State] = (),
) -> ReportFindings | None:
    """The findings of a partition, the worst `most` of them with a close-up; None without a table.

    `state`: the current state of the ledger. `images`: the scored images. `without`: states to leave out. Raises
    InputError for a damaged table.
    """
    found = read_findings(partition)
    if found is None:
        return None
    table, made_from = found
    known = {version_of_image(image): image for image in images}
    rows = [finding for finding in Finding.from_table(table) if version_of_image(finding) in known]
    kept = [row for row in rows if row.state not in without]
    crops = make_crops(kept[:most], known, rule, form)
    return ReportFindings(kept, crops, made_from == state, len(rows) - len(kept))


def template_parts(findings: ReportFindings) -> dict[str, Any]:
    """Values for the template besides the findings."""
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
    """Data for the script about each listed finding: its columns in the file of decisions, and its position.

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
    """A UTC time in the format of JavaScript's `toISOString`, so that both compare as text."""
    return f"{when.strftime('%Y-%m-%dT%H:%M:%S')}.{when.microsecond // 1000:03}Z"
