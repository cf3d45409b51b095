"""The two tables of an output: score maps (a row for each tile) and the ledger (a row for each image).

Each has one schema for all images and surveys, so that a folder of them opens as one table.
"""

import json

import pyarrow as pa

BBOX = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
TIME = pa.timestamp("us", tz="UTC")

# source, model, tiling and run of a row
IDENTITY = [
    (name, pa.string())
    for name in ("survey", "image_uri", "image_id", "fingerprint", "model_id", "tiling_id", "run_id")
]

# GeoParquet 1.1 in its file metadata. No crs means longitude and latitude (OGC:CRS84), and no bbox of the file: readers
# take the metadata of one file for a whole folder.
GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["Polygon", "MultiPolygon"],
            "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
        }
    },
}

GEO_METADATA = {"geo": json.dumps(GEO)}

SCORE_MAP = pa.schema(
    [
        *IDENTITY,
        ("scored_at", TIME),
        ("tile_id", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("valid_fraction", pa.float32()),
        ("score", pa.float32()),
        ("score_max", pa.float32()),
        ("p_value", pa.float64()),
        ("threshold", pa.float64()),
        ("is_anomalous", pa.bool_()),
        ("precision", pa.string()),
        ("score_map", pa.list_(pa.list_(pa.float16()))),
        ("geometry", pa.binary()),
        ("bbox", BBOX),
        ("score_worst", pa.float32()),
        ("p_value_worst", pa.float64()),
        ("threshold_worst", pa.float64()),
    ],
    GEO_METADATA,
)
"""x, y, width, height: pixels of the stored raster. geometry: WKB in longitude and latitude (OGC:CRS84)."""


def image_of_tile(tile_id: str) -> str:
    """The image_id of a tile, whose `tile_id` is IMAGE_ID-ROW-COL."""
    return tile_id.split("-")[0]


LEDGER = pa.schema(
    [
        *IDENTITY,
        ("survey_root", pa.string()),
        ("recorded_at", TIME),
        ("status", pa.string()),
        ("tiles", pa.int32()),
        ("skipped_tiles", pa.int32()),
        ("anomalous_tiles", pa.int32()),
        ("error_stage", pa.string()),
        ("error_message", pa.string()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("object_version", pa.string()),
        ("object_bytes", pa.int64()),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("bands", pa.int32()),
        ("dtype", pa.string()),
        ("driver", pa.string()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64())),
        ("orientation", pa.int32()),
        ("captured_at", pa.timestamp("ms")),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("decoder", pa.string()),
        ("pages", pa.int32()),
        ("run_number", pa.int32()),
        ("gsd_estimate", pa.float64()),
    ]
)
"""status: `scored`, `failed`, `removed` or `passed over`. captured_at: local time of the camera; EXIF has no time zone.
pages: number of pages of a TIFF, of which only the first is scored. run_number: one more than the largest of the survey
when the run began; it orders rows without a clock. gsd_estimate: metres per pixel on the object, from the camera's
notes.
"""

LATEST = ("run_number", "recorded_at", "run_id")
LATEST_FIRST = ", ".join(f"{column} DESC NULLS LAST" for column in LATEST)
"""Sort order of the rows of an image, also in SQL. Rows of earlier versions have no number."""


ADDED = frozenset({"score_worst", "p_value_worst", "threshold_worst"})
"""Columns of the score map that objects of version 0.1 lack. They are read as null."""
