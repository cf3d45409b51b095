"""Engines of tiny trainings, and batches for their steps."""

from pathlib import Path

import numpy as np

from ssvq.model.description import Preprocessing
from ssvq.training.engine import Engine
from tests.support.surveys import TILE, tiny_training

PREPROCESSING = Preprocessing(tile_size=TILE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def samples(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, TILE, TILE, 3), dtype=np.uint8)


def engine_of(**changes: object) -> Engine:
    return Engine(tiny_training(Path("survey"), "out", **changes), PREPROCESSING)
