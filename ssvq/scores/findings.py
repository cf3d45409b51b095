"""The table of findings, one row each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self, get_args

import pyarrow as pa
import shapely
from shapely.geometry.base import BaseGeometry

from ssvq.scores.schema import BBOX, GEO_METADATA, TIME

FINDINGS = pa.schema(
    [
        ("survey", pa.string()),
        ("image_uri", pa.string()),
        ("image_id", pa.string()),
        ("fingerprint", pa.string()),
        ("model_id", pa.string()),
        ("tiling_id", pa.string()),
        ("finding_id", pa.string()),
        ("severity", pa.string()),
        ("state", pa.string()),
        ("decided_by", pa.string()),
        ("decided_at", TIME),
        ("note", pa.string()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("area_pixels", pa.float64()),
        ("image_share", pa.float64()),
        ("area_m2", pa.float64()),
        ("area_from", pa.string()),
        ("distance_max", pa.float32()),
        ("distance_mean", pa.float32()),
        ("threshold", pa.float64()),
        ("times_threshold", pa.float64()),
        ("p_value_worst", pa.float64()),
        ("p_value_mean", pa.float64()),
        ("tiles", pa.int32()),
        ("change", pa.string()),
        ("previous_survey", pa.string()),
        ("previous_id", pa.string()),
        ("previous_area", pa.float64()),
        ("growth", pa.float64()),
        ("outline", pa.binary()),
        ("geometry", pa.binary()),
        ("bbox", BBOX),
    ],
    GEO_METADATA,
)
"""finding_id: from image, model, tiling and the place of the largest distance, so that it survives other thresholds.
state: `new`, or a person's decision, with who, when (UTC) and a note. x, y, width, height: bounding box in pixels.
area_from: `georeference`, `gsd`, `camera` (an estimate), or null if the area in square metres is not known.
p_value_worst, p_value_mean: over the `tiles` tiles that it touches. outline: WKB in pixels. geometry: WKB in longitude
and latitude, null without a place on the map.

The next columns compare with an earlier survey, `previous_survey`; without one they are null. change: `new`, `grown`,
`unchanged`, `shrunk`, or null if the earlier survey did not see the place. previous_id: finding_id of the largest
counterpart. previous_area: its area in pixels of this image. growth: area now divided by area then, both where both
surveys saw it.
"""

State = Literal["new", "confirmed", "rejected", "resolved"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row of FINDINGS."""

    survey: str
    image_uri: str
    image_id: str
    fingerprint: str
    model_id: str
    tiling_id: str
    finding_id: str
    severity: str
    state: State = "new"
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None
    x: int
    y: int
    width: int
    height: int
    area_pixels: float
    image_share: float
    area_m2: float | None
    area_from: str | None
    distance_max: float | None
    distance_mean: float | None
    threshold: float
    times_threshold: float | None
    p_value_worst: float | None
    p_value_mean: float | None
    tiles: int
    change: str | None = None
    previous_survey: str | None = None
    previous_id: str | None = None
    previous_area: float | None = None
    growth: float | None = None
    outline: bytes
    geometry: bytes | None
    bbox: dict[str, float] | None

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Self]:
        """The findings in a table of the schema FINDINGS."""
        return [cls(**row) for row in table.to_pylist()]

    @property
    def region(self) -> BaseGeometry:
        """The outline as a polygon, or several, in pixels."""
        return shapely.from_wkb(self.outline)


def to_table(findings: Sequence[Finding]) -> pa.Table:
    """A table of the schema FINDINGS."""
    return pa.table({name: [getattr(one, name) for one in findings] for name in FINDINGS.names}, FINDINGS)
