"""The reference that needs no learning: how red a tile is. A figure of a model means little without it."""

import numpy as np
from numpy.typing import NDArray


def redness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of red minus blue of each tile, uint8 (n, t, t, 3) to float32 (n,)."""
    means = pixels.mean(axis=(1, 2), dtype=np.float64)
    return (means[:, 0] - means[:, 2]).astype(np.float32)
