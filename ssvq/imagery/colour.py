"""A baseline without learning: how red a tile is. Compare every figure of a model with it."""

import numpy as np
from numpy.typing import NDArray

UPPER = 90  # percentile

REFERENCES = {"redness": "mean red minus blue", "redness_p90": "90th percentile of red minus blue"}
"""Columns of tiles for the baseline, and what they are."""


def redness(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Red minus blue of tiles, uint8 (n, t, t, 3): mean and 90th percentile over each tile, float32 (n,)."""
    difference = pixels[..., 0].astype(np.int16) - pixels[..., 2]
    flat = difference.reshape(len(pixels), -1)
    if not len(flat):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    return flat.mean(axis=1).astype(np.float32), np.percentile(flat, UPPER, axis=1).astype(np.float32)
