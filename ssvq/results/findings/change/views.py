"""What a process remembers of the images that it compares: where they were scored, and their features."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import shapely
from rasterio.features import shapes
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.io import storage
from ssvq.results.findings.decisions import version_of
from ssvq.scores.choose import read_object
from ssvq.scores.heat_map import stitch
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.objects import HeatScale
from ssvq.scores.score_map import COLUMNS, ScoreMap

if TYPE_CHECKING:  # OpenCV is loaded when the first photograph is registered
    from ssvq.results.findings.change.registration import Features

KEPT = 32  # images: several later images in a row are compared with one earlier image

Known = TypeVar("Known")


@dataclass(frozen=True)
class ScoredArea:
    """`area`: polygons, in pixels of the stored raster, that have scores; `cell`: side of a heat cell."""

    area: BaseGeometry
    cell: float


class Views:
    """Reads images of an output, scored by one model, and remembers the latest."""

    def __init__(self, scores: str, scale: HeatScale, rule: PixelRule) -> None:
        self.scores, self.scale, self.rule = scores, scale, rule
        self.area = _remember(self._area)
        self.features = _remember(self._features)

    def _area(self, image: ImageRow) -> ScoredArea:
        """Raises InputError if the score map is missing or damaged."""
        tiles = read_object(self.scores, image, COLUMNS)
        if not len(tiles):
            return ScoredArea(shapely.Polygon(), 1.0)
        heat = stitch(ScoreMap.from_table(tiles), image.image_width, image.image_height, self.scale.cell)
        whole = shapely.box(0, 0, image.image_width, image.image_height)
        cell = float(np.sqrt(heat.pitch_x * heat.pitch_y))
        scored = np.isfinite(heat.values)
        if scored.all():
            return ScoredArea(whole, cell)
        outlines = shapes(
            scored.astype(np.uint8), mask=scored, connectivity=4, transform=Affine.scale(heat.pitch_x, heat.pitch_y)
        )
        area = shapely.union_all([shapely.geometry.shape(outline) for outline, _ in outlines])
        return ScoredArea(shapely.intersection(area, whole), cell)

    def _features(self, image: ImageRow) -> "Features":
        """Raises ImageError if the source image cannot be read, or has changed since it was scored."""
        from ssvq.results.findings.change.registration import read_features

        try:
            version = storage.stat(image.image_uri).version
        except FileNotFoundError:
            raise ImageError("read", "is missing") from None
        except storage.StorageError as error:
            raise ImageError("read", f"cannot be read: {error}") from None
        if version != version_of(image.fingerprint):
            raise ImageError("read", "has changed since it was scored")
        return read_features(image, self.rule)


@cache
def views_of(scores: str, scale: HeatScale, rule: PixelRule) -> Views:
    """Those of this process."""
    return Views(scores, scale, rule)


def _remember(look: Callable[[ImageRow], Known]) -> Callable[[ImageRow], Known]:
    """A function that keeps its last KEPT answers."""
    kept: OrderedDict[tuple[str, str], Known] = OrderedDict()

    def remembering(image: ImageRow) -> Known:
        key = image.survey, image.image_id
        if key not in kept:
            kept[key] = look(image)
        kept.move_to_end(key)
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return kept[key]

    return remembering
