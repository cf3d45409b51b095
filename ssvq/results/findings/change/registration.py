"""Registering photographs: the homography from an earlier one to a later one, by features that both have (OpenCV).

SIFT features do not change with brightness, contrast, scale or rotation. A homography is exact for a plane, such as a
wall or a deck, and for a camera that only turns; other scenes are registered as well as a plane fits them.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.results.findings.change.frames import Projective
from ssvq.scores.ledger_row import ImageRow

LONGEST_SIDE = 1600  # pixels at which features are looked for
MOST_FEATURES = 4000
LEAST_CONTRAST = 0.015  # OpenCV's 0.04 finds too few on painted walls
CLEARLY_NEARER = 0.8  # the best match to the second (Lowe 2004)
INLIER_PIXELS = 3.0  # at the size at which features are looked for
LEAST_SPREAD = 0.1  # of the area that both show, which the matched features must span
LARGEST_SCALE = 5.0  # from one image to the other


@dataclass(frozen=True)
class Features:
    """`points` float32 (n, 2) in pixels of the stored raster, and their `descriptors` float32 (n, 128); `scale` pixels
    of the raster to one of the picture in which they were found.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    size: tuple[int, int]
    scale: float


@dataclass(frozen=True)
class Registration:
    """`frame` takes pixels of the earlier image to the later one's. `features`: how many agree on it. `error`: root
    mean square of their distances, in pixels of the later image.
    """

    frame: Projective
    features: int
    error: float


def read_features(image: ImageRow, rule: PixelRule) -> Features:
    """The features of an image as a model sees its pixels. Raises ImageError (stage `read`)."""
    width, height = image.image_width, image.image_height
    shrink = max(1.0, max(width, height) / LONGEST_SIDE)
    shape = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    with open_raster(image.image_uri, [image.driver]) as dataset:
        if (dataset.width, dataset.height) != (width, height):
            raise ImageError("read", f"is {dataset.width} x {dataset.height} now: it changed after it was scored")
        pixels, valid = read_rgb(dataset, 0, 0, width, height, shape, rule)
    return find_features(pixels, valid, (width, height))


def find_features(pixels: NDArray[np.uint8], valid: NDArray[np.bool_] | None, size: tuple[int, int]) -> Features:
    """The features of a picture, uint8 (rows, cols, 3), where it is valid, bool (rows, cols). `size`: width and height
    of the image that it was made from, in whose pixels their places are.
    """
    grey = cv2.createCLAHE(2.0, (8, 8)).apply(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    mask = None if valid is None else valid.astype(np.uint8) * 255
    sift = cv2.SIFT.create(MOST_FEATURES, contrastThreshold=LEAST_CONTRAST)
    keypoints, descriptors = sift.detectAndCompute(grey, mask)
    across, down = size[0] / pixels.shape[1], size[1] / pixels.shape[0]
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)
    # The centre of OpenCV's first pixel is 0, and of the raster's 0.5.
    points = (points + np.float32(0.5)) * np.array([across, down], np.float32)
    if not keypoints:
        return Features(points, np.empty((0, 128), np.float32), size, 1.0)
    # Distances of square roots compare histograms better (RootSIFT, Arandjelovic and Zisserman 2012).
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return Features(points, descriptors.astype(np.float32), size, math.sqrt(across * down))


def register(later: Features, earlier: Features) -> Registration | None:
    """The homography between two images, or None where they do not show the same thing, or have too little in common
    to be sure of it.
    """
    if min(len(later.points), len(earlier.points)) < 8:
        return None
    pairs = _matches(earlier.descriptors, later.descriptors)
    if len(pairs) < 8:
        return None
    source, target = earlier.points[pairs[:, 0]], later.points[pairs[:, 1]]
    matrix, inliers = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, INLIER_PIXELS * later.scale, maxIters=10_000, confidence=0.9999
    )
    if not np.shape(matrix):  # none fits any four of them; OpenCV's annotations know no None
        return None
    frame, agree = Projective(np.asarray(matrix, np.float64)), inliers.ravel().astype(bool)
    common = _common(frame, earlier.size, later.size)
    if common is None:
        return None
    # Of the matches where both images show something, so many agree by chance at most (Brown and Lowe 2007).
    within = np.isfinite(frame(source.astype(float))).all(axis=1)
    number = int(agree.sum())
    if number <= 8 + 0.3 * np.count_nonzero(within & _inside(frame(source.astype(float)), later.size)):
        return None
    spread = cv2.contourArea(cv2.convexHull(target[agree]))
    if spread < LEAST_SPREAD * common:
        return None
    distances = np.linalg.norm(frame(source[agree].astype(float)) - target[agree], axis=1)
    return Registration(frame, number, float(np.sqrt((distances**2).mean())))


def _matches(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.intp]:
    """Pairs (n, 2) of descriptors that are each other's nearest, and clearly nearer than the next."""
    likeness = first @ second.T  # unit vectors: the larger, the nearer
    best = likeness.argmax(1)
    rows = np.arange(len(first))
    top = likeness[rows, best]
    back = likeness.argmax(0)
    likeness[rows, best] = -1
    distance = np.sqrt(np.maximum(2 - 2 * top, 0))
    next_distance = np.sqrt(np.maximum(2 - 2 * likeness.max(1), 0))
    good = (back[best] == rows) & (distance < CLEARLY_NEARER * next_distance)
    return np.column_stack([rows[good], best[good]])


def _inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points <= size)).all(axis=1))


def _common(frame: Projective, earlier: tuple[int, int], later: tuple[int, int]) -> float | None:
    """Pixels of the later image that the earlier one shows too; None for a homography that no camera makes."""
    width, height = earlier
    corners = frame(np.array([[0, 0], [width, 0], [width, height], [0, height]], float))
    if not np.isfinite(corners).all():
        return None
    (x, y), (x_next, y_next) = (sides := np.roll(corners, -1, axis=0) - corners).T, np.roll(sides, -1, axis=0).T
    turns = x * y_next - y * x_next
    scale = cv2.contourArea(corners.astype(np.float32)) / (width * height)
    if not (turns > 0).all() or not LARGEST_SCALE**-2 < scale < LARGEST_SCALE**2:
        return None
    box = np.array([[0, 0], [later[0], 0], later, [0, later[1]]], np.float32)
    return float(cv2.intersectConvexConvex(corners.astype(np.float32), box)[0])
