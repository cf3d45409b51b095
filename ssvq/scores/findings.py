"""The table of findings, one row each."""

import pyarrow as pa

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
