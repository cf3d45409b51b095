"""A tiny architecture, and batches to learn from."""

import numpy as np
import torch
from torch import Tensor

from ssvq.config import Architecture

TINY = Architecture(hidden=8, residual_hidden=4, residual_layers=1, codes=16, dimensions=4)
SIDE = 16


def images(n: int, seed: int = 0, side: int = SIDE) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def patches(n: int, seed: int, *, noisy: bool) -> Tensor:
    """Smooth ramps of random direction, or the same under noise; about unit variance."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1, 1))
    ramp = np.cos(angle) * x + np.sin(angle) * y + 0.3 * rng.normal(size=(n, 3, 1, 1))
    noise = 0.5 * rng.normal(size=(n, 3, 32, 32)) if noisy else 0
    return torch.from_numpy(ramp + noise).float()
