"""Scores in half precision agree with those in fp32: real tiles, and a model of full width that has learned from such.

The arithmetic is that of the hardware, or of software which rounds as the hardware does.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.stats import spearmanr

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.inference.scorer import TileScorer, normalise
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.model.description import Preprocessing

SIZE, CROP, STEPS, LEARNED_FROM = 512, 64, 120, 24
TILES = 24


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> list[NDArray[np.uint8]]:
    """The middle 1024x1024 pixels (or fewer rows) of photographs of steel bridges, uint8 (h, w, 3)."""
    return list(_middles(sorted((real_data / "corrosion" / "images").glob("*.jpeg")), LEARNED_FROM + TILES))


def _middles(paths: list[Path], number: int) -> Iterator[NDArray[np.uint8]]:
    for path in paths:
        with rasterio.open(path) as image:
            width, height = min(image.width, 2 * SIZE), min(image.height, 2 * SIZE)
            if width >= SIZE and height >= SIZE and number:
                number -= 1
                x, y = (image.width - width) // 2, (image.height - height) // 2
                yield np.moveaxis(image.read(window=Window(x, y, width, height)), 0, -1)


@pytest.fixture(scope="module")
def trained(photographs: list[NDArray[np.uint8]]) -> tuple[SSVQVAE, Preprocessing]:
    """The paper's widths, trained on crops; the redder half of a batch counts as anomalous."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    pixels = np.concatenate([photograph.reshape(-1, 3)[::97] for photograph in photographs[:LEARNED_FROM]]) / 255
    mean, std = ([float(value) for value in values] for values in (pixels.mean(0), pixels.std(0)))
    preprocessing = Preprocessing(tile_size=SIZE, mean=tuple(mean), std=tuple(std))
    method = SSVQVAE(Architecture(), Objective(), CodebookSettings()).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(method.parameters(), 1e-3)
    for step in range(STEPS):
        crops = normalise(torch.from_numpy(_crops(rng, photographs[:LEARNED_FROM], 24)), preprocessing)
        order = (crops[:, 0] - crops[:, 2]).mean((1, 2)).argsort()
        normal, anomalous = crops[order[:12]], crops[order[12:]]
        if step == 0:
            method.start(normal, seed=0, steps=STEPS)
        loss = method.loss(normal, anomalous)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
        method.after_step(step, seed=0)
    return method, preprocessing


def _crops(rng: np.random.Generator, photographs: list[NDArray[np.uint8]], number: int) -> NDArray[np.uint8]:
    crops = []
    for photograph in (photographs[i] for i in rng.integers(len(photographs), size=number)):
        y, x = (rng.integers(side - CROP + 1) for side in photograph.shape[:2])
        crops.append(photograph[y : y + CROP, x : x + CROP])
    return np.stack(crops)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.soak)])
def test_scores_agree_with_fp32(
    trained: tuple[SSVQVAE, Preprocessing], photographs: list[NDArray[np.uint8]], precision: str
) -> None:
    tiles = np.stack([photograph[:SIZE, :SIZE] for photograph in photographs[LEARNED_FROM:]])
    exact = TileScorer(*trained, 16, torch.device("cpu"), "fp32").score(tiles).score
    rounded = TileScorer(*trained, 16, torch.device("cpu"), precision).score(tiles).score
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    assert np.abs(rounded / exact - 1).max() < 1e-3
    assert spearmanr(exact, rounded).statistic > 0.9999
