"""Findings for GIS: GeoPackage and GeoJSON, in longitude and latitude. Findings without a place are left out."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely

from ssvq.results.export.label_tools.content import rows_by_version
from ssvq.scores.findings import FINDINGS

LAYER = "findings"
GEOMETRY = "geometry"
COLUMNS = [field for field in FINDINGS if field.name not in ("outline", "bbox", GEOMETRY)]
"""What a finding is described by."""


def placed_findings(scores: str, images: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows of FINDINGS of the images that have a place, and how many have none.

    Raises InputError as `rows_by_version`.
    """
    found = rows_by_version(scores, images)
    rows = [row for image in images for row in found.get((image["image_id"], image["fingerprint"]), [])]
    placed = [row for row in rows if row[GEOMETRY] is not None]
    return placed, len(rows) - len(placed)


def to_geopackage(rows: Sequence[dict[str, Any]]) -> bytes:
    """The file, with the layer `findings` of multipolygons in EPSG:4326. SQLite needs a file to write it."""
    import pyogrio  # brings pandas, which takes a second to load

    shapes = [shapely.to_wkb(_multi(row)) for row in rows]
    table = pa.Table.from_pylist(list(rows), pa.schema(COLUMNS)).append_column(GEOMETRY, pa.array(shapes, pa.binary()))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "findings.gpkg"
        pyogrio.write_arrow(
            table,
            file,
            layer=LAYER,
            driver="GPKG",
            geometry_name=GEOMETRY,
            geometry_type="MultiPolygon",
            crs="EPSG:4326",
        )
        return file.read_bytes()


def to_geojson(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A FeatureCollection (RFC 7946)."""
    features = [
        {
            "type": "Feature",
            "id": row["finding_id"],
            "geometry": json.loads(shapely.to_geojson(shapely.from_wkb(row[GEOMETRY]))),
            "properties": {field.name: _plain(row[field.name]) for field in COLUMNS},
        }
        for row in rows
    ]
    return {"type": "FeatureCollection", "features": features}


def _multi(row: dict[str, Any]) -> shapely.MultiPolygon:
    shape = shapely.from_wkb(row[GEOMETRY])
    return shape if isinstance(shape, shapely.MultiPolygon) else shapely.MultiPolygon([shape])


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
