"""Chooses random crops of tiles that have the wanted label."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CROP_TRIES = 8


def choose_crop(
    shape: tuple[int, int],
    share_at: Callable[[int, int], float],
    size: int,
    fits: Callable[[float], bool],
    wants_anomalous: bool,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Corner y, x of a random crop of a tile with image size (height, width), whose share of anomalous pixels `fits`.
    If none of a few tries fits, the nearest.

    A crop larger than the image starts at 0.
    """
    height, width = shape
    best, best_fraction = (0, 0), -1.0
    for _ in range(CROP_TRIES):
        y = int(rng.integers(max(0, height - size) + 1))
        x = int(rng.integers(max(0, width - size) + 1))
        fraction = share_at(y, x)
        if fits(fraction):
            return y, x
        nearness = fraction if wants_anomalous else 1 - fraction
        if nearness > best_fraction:
            best, best_fraction = (y, x), nearness
    return best


def choose_crop_with_part(mask: NDArray[np.bool_], size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Corner y, x of a random crop around a random pixel of the part that a mask (height, width) shows. It lies
    within the mask if the mask is large enough. With an empty mask, any crop.
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        ys, xs = (np.array([rng.integers(length)]) for length in mask.shape)
    pixel = int(rng.integers(len(ys)))
    corner = []
    for at, length in zip((int(ys[pixel]), int(xs[pixel])), mask.shape, strict=True):
        first, last = max(0, at - size + 1), min(at, max(0, length - size))
        corner.append(int(rng.integers(min(first, last), last + 1)))
    return corner[0], corner[1]
