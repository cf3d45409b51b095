"""Frames: maps from the pixels of an earlier image to those of a later one, so that areas compare.

A frame is a function from points (n, 2), x and y in pixels of the earlier image's stored raster, to points (n, 2) of
the later one; NaN for points without a place there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_coordinates
from shapely.geometry.base import BaseGeometry

from ssvq.results.ground import LONGEST_STRAIGHT, affine_of
from ssvq.scores.ledger_row import ImageRow

Points = NDArray[np.float64]
Frame = Callable[[Points], Points]


@dataclass(frozen=True)
class Projective:
    """A homography, `matrix` float64 (3, 3). It is exact between two photographs of a plane, or from one place."""

    matrix: NDArray[np.float64]

    def __call__(self, points: Points) -> Points:
        moved = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        # Points on or behind the horizon of the later camera have no place in its image.
        scale = np.where(moved[:, 2] > 0, moved[:, 2], np.nan)
        return np.asarray(moved[:, :2] / scale[:, None])


@dataclass(frozen=True)
class _Ground:
    """Uses the georeferences of both images, in two coordinate systems."""

    earlier: ImageRow
    later: ImageRow

    def __call__(self, points: Points) -> Points:
        x, y = affine_of(self.earlier) * (points[:, 0], points[:, 1])
        try:
            x, y = map(np.asarray, transform_coordinates(self.earlier.crs, self.later.crs, x, y))
        except (CRSError, CPLE_BaseError):  # GDAL's own error, of a local coordinate system
            return np.full_like(points, np.nan)
        moved = np.column_stack(~affine_of(self.later) * (x, y)).astype(np.float64)
        moved[~np.isfinite(moved).all(axis=1)] = np.nan
        return moved


def same_ground(earlier: ImageRow, later: ImageRow) -> Frame:
    """The frame of two images that both have a georeference."""
    if earlier.crs != later.crs:
        return _Ground(earlier, later)
    return Projective(np.reshape(~affine_of(later) * affine_of(earlier), (3, 3)))


def same_view(earlier: ImageRow, later: ImageRow) -> Projective:
    """The frame of two images that show the same view and differ only in size."""
    across, down = later.image_width / earlier.image_width, later.image_height / earlier.image_height
    return Projective(np.diag([across, down, 1.0]))


def move(shape: BaseGeometry, frame: Frame) -> BaseGeometry | None:
    """Move a polygon or multipolygon from the earlier image to the later one. None if a part has no place there."""
    if not isinstance(frame, Projective):  # only there a straight line stays straight
        shape = shapely.segmentize(shape, LONGEST_STRAIGHT)
    moved = shapely.transform(shape, frame)
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return None
    return moved if moved.is_valid else shapely.make_valid(moved)


def cell_side(frame: Frame, side: float, shape: BaseGeometry) -> float:
    """Side, in pixels of the later image, of an earlier cell of `side` pixels at the middle of a shape: the root of its
    area there.
    """
    x, y = shape.centroid.coords[0]
    half = side / 2
    square = np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]])
    return float(np.sqrt(shapely.Polygon(frame(square)).area))
