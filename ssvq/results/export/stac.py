"""STAC 1.1 Items for catalogues and GIS: an image, its score map, its heat map and its counts."""

from datetime import UTC, datetime
from typing import Any

import antimeridian
import shapely

from ssvq.io import storage
from ssvq.results.ground import footprint
from ssvq.scores.choose import finite
from ssvq.scores.ledger_row import ImageRow

STAC_VERSION = "1.1.0"
MODEL_DIGITS = 8  # of the hash that a model_id is
PARQUET = "application/vnd.apache.parquet"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
MEDIA_TYPES = {
    "GTiff": "image/tiff",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "JP2OpenJPEG": "image/jp2",
}


def item_id(image: ImageRow) -> str:
    """Id of an image's Item, and stem of its heat map's name. Other scores of the image have another id."""
    return "-".join([image.survey, image.image_id, image.model_id[:MODEL_DIGITS], image.tiling_id])


def make_item(scores: str, image: ImageRow, worst_score: float | None, heat_map: str | None) -> dict[str, Any]:
    """The Item of an image, with the address of its heat map if there is one.

    Its time is that of the picture, else of the scoring. EXIF has local time without a zone; it is written as UTC, and
    `ssvq:datetime_from` says so. Its geometry is the image's footprint, else the camera's position, else null. Without
    a geometry there is no bbox.
    """
    geometry, geometry_from = _geometry(image)
    at, time = ("recorded_at", image.recorded_at) if image.captured_at is None else ("captured_at", image.captured_at)
    properties = {
        "datetime": _rfc3339(time),
        "ssvq:datetime_from": at,
        "ssvq:geometry_from": geometry_from,
        **{f"ssvq:{name}": getattr(image, name) for name in ("survey", "model_id", "tiling_id", "run_id")},
        **{f"ssvq:{name}": getattr(image, name) for name in ("tiles", "skipped_tiles", "anomalous_tiles")},
        "ssvq:worst_score": finite(worst_score),
    }
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": item_id(image),
        "geometry": geometry,
        "properties": properties,
        "links": [],
        "assets": _assets(scores, image, heat_map),
    }
    if geometry is not None:
        item["bbox"] = _bbox(geometry)
    return item


def _geometry(image: ImageRow) -> tuple[dict[str, Any] | None, str | None]:
    """GeoJSON geometry, and its source: the image's footprint or the camera's position."""
    outline = footprint(image)
    if outline is not None:
        return shapely.geometry.mapping(outline), "footprint"
    if image.latitude is not None and image.longitude is not None:
        return {"type": "Point", "coordinates": [image.longitude, image.latitude]}, "camera"
    return None, None


def _bbox(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north. West is the larger longitude if the image crosses the antimeridian (RFC 7946, 5.2)."""
    if geometry["type"] == "Point":
        return [*geometry["coordinates"], *geometry["coordinates"]]
    return list(antimeridian.bbox(geometry))


def _assets(scores: str, image: ImageRow, heat_map: str | None) -> dict[str, Any]:
    source = {"href": image.image_uri, "title": storage.base_name(image.image_uri), "roles": ["data"]}
    if image.driver in MEDIA_TYPES:
        source["type"] = MEDIA_TYPES[image.driver]
    score_map = image.partition(scores).score_map(image.image_id)
    assets = {
        "image": source,
        "score_map": {"href": score_map, "title": "Scores of its tiles", "type": PARQUET, "roles": ["metadata"]},
    }
    if heat_map is not None:
        title = "Distance of each cell to the nearest code"
        assets["heat_map"] = {"href": heat_map, "title": title, "type": COG, "roles": ["data", "overlay"]}
    return assets


def _rfc3339(time: datetime) -> str:
    """A time as RFC 3339 in UTC; a time without a zone is taken as UTC."""
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")
