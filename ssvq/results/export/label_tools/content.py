"""Findings for all label tools: the scored images of a survey, upright, with outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ssvq.errors import InputError
from ssvq.imagery.runs import lengths_within
from ssvq.imagery.turns import TURNS
from ssvq.imagery.vocabulary import NORMAL_LABEL
from ssvq.results.findings.stored import read_findings
from ssvq.scores.findings import Finding
from ssvq.scores.ledger_row import ImageRow

ANOMALY = "anomaly"
CATEGORIES = (ANOMALY, NORMAL_LABEL)
"""Categories of findings; a rejected finding is normal."""

ATTRIBUTES = (
    "finding_id",
    "severity",
    "state",
    "times_threshold",
    "p_value_worst",
    "area_m2",
    "decided_by",
    "note",
)
"""Columns of the table of findings that become attributes of a shape, in formats with attributes."""


@dataclass(frozen=True)
class AnnotatedFinding:
    """A finding in its upright image of `width` x `height` pixels. `outline`: in these pixels."""

    finding: Finding
    outline: BaseGeometry
    width: int
    height: int

    @property
    def category(self) -> str:
        """One of CATEGORIES."""
        return NORMAL_LABEL if self.finding.state == "rejected" else ANOMALY

    @property
    def attributes(self) -> dict[str, Any]:
        """ATTRIBUTES that have a value."""
        values = {name: getattr(self.finding, name) for name in ATTRIBUTES}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def rings(self) -> list[NDArray[np.float64]]:
        """Its polygons as points (n, 2), without repeating the first point; empty if one has a hole."""
        parts = shapely.get_parts(self.outline)
        if any(len(part.interiors) for part in parts):
            return []
        return [shapely.get_coordinates(part.exterior)[:-1] for part in parts]

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest box of whole pixels around it: x, y, width, height."""
        left, top, right, bottom = self.outline.bounds
        x, y = int(np.floor(left)), int(np.floor(top))
        return x, y, int(np.ceil(right)) - x, int(np.ceil(bottom)) - y

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels of the box whose centre lies in it, bool (height, width)."""
        x, y, width, height = self.box
        place = Affine.translation(x, y)
        drawn = rasterize([self.outline], out_shape=(height, width), transform=place, dtype="uint8")
        return np.asarray(drawn, bool)

    def run_lengths(self, *, by_rows: bool) -> list[int]:
        """Run lengths of its mask over the whole image, zeros first: along the rows, or down the columns."""
        place = self.box[:2]
        return [int(n) for n in lengths_within(self.mask, place, (self.width, self.height), by_rows=by_rows)]


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its findings. `name`: its path in the survey. `width`, `height`: of the upright image."""

    row: ImageRow
    name: str
    width: int
    height: int
    findings: list[AnnotatedFinding]


def annotated_images(scores: str, images: Sequence[ImageRow]) -> list[AnnotatedImage]:
    """The images with their findings, worst first.

    Raises InputError if they are of several surveys, or if there is no table of findings.
    """
    surveys = sorted({image.survey for image in images})
    if len(surveys) > 1:
        raise InputError(f"--survey is missing: a file for a label tool holds one survey, and here are {len(surveys)}")
    by_version = findings_by_version(scores, images)
    return [_annotated(image, by_version.get((image.image_id, image.fingerprint), [])) for image in images]


def findings_by_version(scores: str, images: Sequence[ImageRow]) -> dict[tuple[str, str], list[Finding]]:
    """Findings by image_id and fingerprint, worst first, from the tables of the partitions of images.

    Raises InputError for a partition without a table, and for a damaged table.
    """
    found: dict[tuple[str, str], list[Finding]] = {}
    for partition in dict.fromkeys(image.partition(scores) for image in images):
        stored = read_findings(partition)
        if stored is None:
            raise InputError(
                f"{scores} has no table of findings of survey {partition.survey!r}: make it by "
                f"`ssvq findings {scores} --survey {partition.survey}`"
            )
        for finding in Finding.from_table(stored[0]):
            found.setdefault((finding.image_id, finding.fingerprint), []).append(finding)
    return found


def _annotated(image: ImageRow, findings: Sequence[Finding]) -> AnnotatedImage:
    stored = image.image_width, image.image_height
    turn = TURNS[image.orientation or 1]
    width, height = turn.upright_size(stored)
    annotated = [
        AnnotatedFinding(
            finding,
            shapely.transform(finding.region, lambda points: turn.to_upright(points, stored)),
            width,
            height,
        )
        for finding in findings
    ]
    name = image.image_uri.removeprefix(f"{(image.survey_root or '').rstrip('/')}/").lstrip("/")
    return AnnotatedImage(image, name, width, height, annotated)
