"""Pictures that look like photographs."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photograph(seed: int, width: int = 200, height: int = 150) -> NDArray[np.uint8]:
    """Smooth patches, as from afar, and grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 220, (7, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse, int) + rng.integers(-9, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def saved_again(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Smaller, brighter, and as a JPEG of low quality."""
    small = Image.fromarray(np.clip(pixels * 0.95 + 10, 0, 255).astype(np.uint8)).resize((150, 113))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))
