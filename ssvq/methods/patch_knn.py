"""Nearest normal cell, the idea of PatchCore (Roth et al., CVPR 2022): a cell is as anomalous as its features are far
from those of the nearest normal cell. A reference that uses no labelled anomalies and learns only what is normal.

What it remembers of the normal cells is a coreset: each cell that is taken is the farthest from those taken before,
in a random projection, as in the paper. Distances are those of standardised features. The score is a norm over the
cells as Eq. 5, in place of the paper's reweighted maximum, which `score_worst` is near.
"""

import torch
from torch import Tensor

from ssvq.methods.base import Method, Score, root_sum_of_squares, rows_of_cells
from ssvq.methods.settings import Memory
from ssvq.model.codebook import nearest_squared_distance
from ssvq.model.encoders.backbone import BackboneEncoder
from ssvq.model.settings import Architecture

IMAGES_AT_ONCE = 32
PROJECTED = 64  # dimensions in which the coreset is chosen


class PatchKnn(Method):
    """`memory`: features of normal cells, float32 (cells, channels), standardised; none before `fit`."""

    sections = ("architecture", "memory")
    anomalies = "unused"
    takes_steps = False
    sized_by_fit = ("remembered",)
    remembered: Tensor

    def __init__(self, architecture: Architecture, memory: Memory) -> None:
        super().__init__()
        self.encoder = BackboneEncoder(architecture)
        self.memory, self.fits_samples = memory, memory.samples
        self.register_buffer("remembered", torch.zeros(0, 0))

    @property
    def ready(self) -> bool:
        """Not before `fit`."""
        return len(self.remembered) > 0

    @torch.no_grad()
    def fit(self, normal: Tensor, anomalous: Tensor, seed: int) -> None:
        """Measure the features of normal images (n, 3, h, w), and remember a coreset of their cells."""
        self.encoder.start(normal[:IMAGES_AT_ONCE])
        cells = torch.cat([rows_of_cells(self.encoder.features(few)) for few in normal.split(IMAGES_AT_ONCE)])
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(cells), generator=generator)[: self.memory.candidates]
        cells = cells[drawn.to(cells.device)]
        directions = torch.randn(cells.shape[1], PROJECTED, generator=generator).to(cells)
        self.remembered = cells[farthest_first(cells @ directions, self.memory.cells)].contiguous()

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Norm over the cells of the distance from the nearest normal cell, and these distances; all are divided by the
        square root of the number of channels.
        """
        features = self.encoder.features(tiles)
        n, channels, height, width = features.shape
        squared = nearest_squared_distance(rows_of_cells(features), self.remembered).view(n, height, width) / channels
        return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())


def farthest_first(points: Tensor, number: int) -> Tensor:
    """Positions int64 of so many of the points (n, d), or of all: the first, and then always the one that is the
    farthest from those taken before (Gonzalez 1985). The greatest distance of a point from those taken is at most twice
    the least that is possible.
    """
    number = min(number, len(points))
    taken = torch.zeros(number, dtype=torch.int64, device=points.device)
    squares = points.square().sum(1)
    distance = torch.full_like(squares, float("inf"))
    for place in range(1, number):
        last = points[taken[place - 1]]
        distance = torch.minimum(distance, squares - 2 * (points @ last) + last.square().sum())
        taken[place] = distance.argmax()
    return taken
