"""The findings of one image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ssvq.results.export.regions_geojson import ELLIPSOID, Region, find_regions
from ssvq.results.findings.severity import OTHER, SeverityRule, severity_of
from ssvq.results.ground import is_placed, on_the_ground
from ssvq.scores import score_map as maps
from ssvq.scores.choose import read_object
from ssvq.scores.findings import Finding
from ssvq.scores.heat_map import stitch
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import HeatScale
from ssvq.scores.schema import BBOX
from ssvq.scores.score_map import ScoreMap

COLUMNS = (*maps.COLUMNS, "score_max", "p_value", "p_value_worst")


@dataclass(frozen=True)
class Bounds:
    """What makes a region a finding.

    `threshold` is the cell distance at which it begins. Without it, `score` gives it: a tile whose cells all have the
    distance has this value in the column that decides (default: the model's threshold). A region goes on down to the
    share `hysteresis` of the distance, and has `smallest` pixels or more.
    """

    threshold: float | None
    score: float | None
    hysteresis: float
    smallest: float
    gsd: float | None


def findings_of(
    scores: str, image: ImageRow, scale: HeatScale, bounds: Bounds, rules: Sequence[SeverityRule]
) -> list[Finding]:
    """The findings of an image.

    Raises InputError if its object is missing or damaged.
    """
    tiles = read_object(scores, image, COLUMNS)
    if not len(tiles):
        return []
    score_map = ScoreMap.from_table(tiles)
    value = scale.decided_by(score_map)[1] if bounds.score is None else bounds.score
    threshold = scale.distance_at(value, score_map) if bounds.threshold is None else bounds.threshold
    largest = pc.max(tiles["score_max"]).as_py()
    if largest is not None and largest < threshold:  # no cell of the map exceeds that of its tile
        return []
    width, height = image.image_width, image.image_height
    heat = stitch(score_map, width, height, scale.cell)
    regions = find_regions(heat, width, height, threshold, bounds.hysteresis * threshold)
    places = _Tiles.of(tiles, scale)
    found = [_finding(one, image, threshold, places, bounds.gsd) for one in regions if one.pixels >= bounds.smallest]
    return [replace(finding, severity=severity_of(finding, rules)) for finding in found]


@dataclass(frozen=True)
class _Tiles:
    """Positions of tiles, left, top, right and bottom (4, n), and p-values (n,) of the deciding column."""

    edges: NDArray[np.float64]
    p_values: NDArray[np.float64]

    @classmethod
    def of(cls, tiles: pa.Table, scale: HeatScale) -> "_Tiles":
        x, y, width, height = (tiles[name].to_numpy().astype(float) for name in ("x", "y", "width", "height"))
        name = "p_value" if scale.worst_threshold is None else "p_value_worst"
        p_values = tiles[name].to_numpy(zero_copy_only=False).astype(float)
        return cls(np.stack([x, y, x + width, y + height]), p_values)

    def under(self, outline: BaseGeometry) -> NDArray[np.float64]:
        """The p-values of the tiles that an outline overlaps, not only touches."""
        left, top, right, bottom = outline.bounds
        x, y, x_end, y_end = self.edges
        near = np.flatnonzero((x < right) & (x_end > left) & (y < bottom) & (y_end > top))
        if len(near) > 1:
            boxes = shapely.box(*self.edges[:, near])
            near = near[shapely.area(shapely.intersection(boxes, outline)) > 0]
        return self.p_values[near]


def _finding(region: Region, image: ImageRow, threshold: float, tiles: _Tiles, gsd: float | None) -> Finding:
    left, top, right, bottom = region.outline.bounds
    geometry = on_the_ground(region.outline, image) if is_placed(image) else None
    area, area_from = _area(region, geometry, gsd, image.gsd_estimate)
    p_values = tiles.under(region.outline)
    key = [image.survey, image.image_id, image.model_id, image.tiling_id, *map(str, region.worst_at)]
    return Finding(
        survey=image.survey,
        image_uri=image.image_uri,
        image_id=image.image_id,
        fingerprint=image.fingerprint,
        model_id=image.model_id,
        tiling_id=image.tiling_id,
        finding_id=hashlib.sha256("\n".join(key).encode()).hexdigest()[:16],
        severity=OTHER,
        x=int(left),
        y=int(top),
        width=int(np.ceil(right)) - int(left),
        height=int(np.ceil(bottom)) - int(top),
        area_pixels=region.pixels,
        image_share=region.pixels / (image.image_width * image.image_height),
        area_m2=area,
        area_from=area_from,
        distance_max=region.distance_max,
        distance_mean=region.distance_mean,
        threshold=threshold,
        times_threshold=region.distance_max / threshold,
        p_value_worst=float(np.nanmin(p_values)) if np.isfinite(p_values).any() else None,
        p_value_mean=float(np.nanmean(p_values)) if np.isfinite(p_values).any() else None,
        tiles=len(p_values),
        outline=shapely.to_wkb(region.outline),
        geometry=None if geometry is None else shapely.to_wkb(geometry),
        bbox=None if geometry is None else dict(zip(BBOX.names, geometry.bounds, strict=True)),
    )


def _area(
    region: Region, geometry: BaseGeometry | None, gsd: float | None, estimate: float | None
) -> tuple[float | None, str | None]:
    """Square metres, and their source: the place on the ground, --gsd, or the camera's notes."""
    if geometry is not None:
        return abs(ELLIPSOID.geometry_area_perimeter(geometry)[0]), "georeference"
    if gsd is not None:
        return region.pixels * gsd**2, "gsd"
    return (None, None) if estimate is None else (region.pixels * estimate**2, "camera")
