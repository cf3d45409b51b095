"""Add a method: the distance of a tile's cells from the mean normal latent.

    python examples/add_method.py

A method is a `torch.nn.Module` with `loss` and `score`. This script trains one in a plain loop and scores with the
scorer that `ssvq score` uses. To make it a `--method` of ssvq, see docs/extending.md: move the class to a module of
ssvq/methods and name it in ssvq/methods/registry.py. Then Ray Train, checkpoints and bundles work without further code.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssvq.inference.scorer import TileScorer, normalise
from ssvq.methods.base import Method, Score, beyond_margin, root_sum_of_squares
from ssvq.model.bundle import Preprocessing
from ssvq.model.encoders import build_encoder
from ssvq.model.metrics import auroc
from ssvq.model.settings import Architecture

SIDE = 32  # pixels of a tile
STEPS = 60


class MeanLatent(Method):
    """Normal cells are pulled to one point, their mean; labelled anomalies are pushed away from it."""

    sections = ("architecture",)
    centre: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = build_encoder(architecture)
        self.register_buffer("centre", torch.zeros(architecture.dimensions))

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the first normal batch."""
        self.encoder.start(normal)
        with torch.no_grad():
            self.centre.copy_(self.encoder(normal).mean((0, 2, 3)))

    def squared(self, images: Tensor) -> Tensor:
        """Squared distance of each cell from the centre, mean over channels: float32 (n, h, w)."""
        return (self.encoder(images) - self.centre[:, None, None]).square().mean(1)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Pull normal samples in, push labelled anomalies beyond a margin of 1."""
        pulled = self.squared(normal).mean()
        pushed = beyond_margin(self.squared(anomalous).mean((1, 2)), 1.0)
        return {"loss": pulled + pushed, "normal": pulled, "anomalous": pushed}

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The norm over the cells, and the distance of each cell."""
        squared = self.squared(tiles)
        return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())


def draw_tiles(rng: np.random.Generator, number: int, *, scratched: bool) -> NDArray[np.uint8]:
    """Grey tiles uint8 (n, SIDE, SIDE, 3) with fine noise; scratched ones have a darker stripe."""
    tiles = rng.normal(150, 12, (number, SIDE, SIDE, 3))
    if scratched:
        for tile in tiles:
            row = rng.integers(4, SIDE - 8)
            tile[row : row + 4] -= 60
    return tiles.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Train on drawn tiles, score others, print the AUROC."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(tile_size=SIDE, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    method = MeanLatent(Architecture(hidden=16, residual_hidden=8, dimensions=8))

    for step in range(STEPS):
        normal, anomalous = (
            normalise(torch.from_numpy(draw_tiles(rng, 16, scratched=scratched)), preprocessing)
            for scratched in (False, True)
        )
        if step == 0:
            method.start(normal, seed=0, steps=STEPS)
            optimiser = torch.optim.Adam(method.parameter_groups(1e-3))
        terms = method.loss(normal, anomalous)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step}: loss {terms['loss'].item():.3f}")

    scorer = TileScorer(method, preprocessing, None, torch.device("cpu"), "fp32")
    labels = np.repeat([False, True], 100)
    tiles = np.concatenate([draw_tiles(rng, 100, scratched=scratched) for scratched in (False, True)])
    print(f"AUROC {auroc(scorer.score(tiles).score, labels):.3f}")
    scorer.close()


if __name__ == "__main__":
    main()
