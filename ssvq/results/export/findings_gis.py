"""Findings for GIS: GeoPackage and GeoJSON, in longitude and latitude. Findings without a position are left out."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely

from ssvq.results.export.label_tools.content import findings_by_version
from ssvq.scores.findings import FINDINGS, Finding, to_table
from ssvq.scores.ledger_row import ImageRow

LAYER = "findings"
GEOMETRY = "geometry"
COLUMNS = [field for field in FINDINGS if field.name not in ("outline", "bbox", GEOMETRY)]
"""Columns that describe a finding."""


def placed_findings(scores: str, images: Sequence[ImageRow]) -> tuple[list[Finding], int]:
    """Findings with a position on the map, and the number of those without one.

    Raises InputError as `findings_by_version`.
    """
    by_version = findings_by_version(scores, images)
    found = [finding for image in images for finding in by_version.get((image.image_id, image.fingerprint), [])]
    placed = [finding for finding in found if finding.geometry is not None]
    return placed, len(found) - len(placed)


def to_geopackage(findings: Sequence[Finding]) -> bytes:
    """A GeoPackage with the layer `findings` of multipolygons in EPSG:4326. SQLite can only write to a file."""
    import pyogrio  # brings pandas, which takes a second to load

    shapes = [shapely.to_wkb(_multi(finding)) for finding in findings]
    columns = to_table(findings).select([field.name for field in COLUMNS]).replace_schema_metadata()
    table = columns.append_column(GEOMETRY, pa.array(shapes, pa.binary()))
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


def to_geojson(findings: Sequence[Finding]) -> dict[str, Any]:
    """A FeatureCollection (RFC 7946)."""
    features = [
        {
            "type": "Feature",
            "id": finding.finding_id,
            "geometry": json.loads(shapely.to_geojson(shapely.from_wkb(finding.geometry))),
            "properties": {field.name: _plain(getattr(finding, field.name)) for field in COLUMNS},
        }
        for finding in findings
    ]
    return {"type": "FeatureCollection", "features": features}


def _multi(finding: Finding) -> shapely.MultiPolygon:
    shape = shapely.from_wkb(finding.geometry)
    return shape if isinstance(shape, shapely.MultiPolygon) else shapely.MultiPolygon([shape])


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
