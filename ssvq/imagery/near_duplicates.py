"""Finds images that look the same, by small pictures of their green band.

Two images are near-duplicates if these correlate far more than an image usually does with its most similar one. So
photographs of parts in one pose, as from a production line, are none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
"""Of a small picture, in pixels."""

MOST_IMAGES = 20_000  # all pairs are compared
LEAST_DEVIATION = 2.0  # standard deviation in grey levels; a flatter small picture resembles every other
FARTHEST = 0.002  # one minus the correlation of two; a photograph saved again has below 0.0015
USUAL = 0.75  # quantile over images of that value for their most similar image: many may have duplicates
SHARE_OF_USUAL = 0.1  # of that
ROWS = 1024  # images compared with all others at a time


def shrink(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A plane (height, width) as SIDE x SIDE means."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((SIDE, SIDE), Image.Resampling.BOX))


def as_vector(small: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """A small picture as a vector of mean 0 and length 1; None for a flat one."""
    values = small.astype(np.float32).ravel()
    if values.std() < LEAST_DEVIATION:
        return None
    centred = values - values.mean()
    return np.asarray(centred / np.linalg.norm(centred), np.float32)


def close_pairs(vectors: Sequence[NDArray[np.float32]], groups: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Index pairs of images that look the same; with `groups`, only pairs from different groups.

    Returns none for more than MOST_IMAGES images.
    """
    n = len(vectors)
    if n < 2 or n > MOST_IMAGES:
        return []
    stacked = np.stack(vectors)
    group = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    nearest = np.empty(n, np.float32)
    close: list[tuple[int, int, float]] = []
    for start in range(0, n, ROWS):
        rows = np.arange(start, min(start + ROWS, n))
        distance = 1 - stacked[rows] @ stacked.T
        distance[np.arange(len(rows)), rows] = np.inf
        nearest[rows] = distance.min(axis=1)
        found = (distance < FARTHEST) & (group[rows][:, None] != group) & (rows[:, None] < np.arange(n))
        close += [(int(rows[i]), int(j), float(distance[i, j])) for i, j in zip(*np.nonzero(found), strict=True)]
    limit = SHARE_OF_USUAL * float(np.quantile(nearest, USUAL)) if n > 4 else FARTHEST
    return [(i, j) for i, j, distance in close if distance <= max(limit, 1e-6)]
