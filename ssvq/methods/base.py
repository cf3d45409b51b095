"""The interface of a method: what the one training loop trains and the one scorer runs."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Score(NamedTuple):
    """Scores of a batch of n tiles: float32 (n,), larger is more anomalous; and the distance of each latent
    cell, float32 (n, h, w), or None for a method that has no cells.
    """

    score: Tensor
    cells: Tensor | None


class Method(nn.Module):
    """A deep method. Images are float32 (n, 3, h, w), normalised by the bundle's preprocessing.

    It is built from the groups of settings that `sections` names, which go into its bundle; a method with
    `needs_anomalies` cannot be trained without labelled anomalous samples.
    """

    sections: ClassVar[tuple[str, ...]]
    needs_anomalies: ClassVar[bool] = False

    @abstractmethod
    def loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Loss terms of a batch, scalars by name; `loss` is the objective, the others are for the record.

        `anomalous` may hold no sample.
        """

    @abstractmethod
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Scores of tiles; cells that are not valid, bool (n, h, w), are left out."""

    def start(self, normal: Tensor, seed: int) -> None:
        """Prepare for training on the first normal batch of this rank; called once, before the first step."""

    def after_step(self, step: int, seed: int) -> dict[str, Tensor]:
        """What is to be done after an optimiser step; returns figures for the record, the same on every rank."""
        return {}

    def forward(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """`loss`, under the name that DistributedDataParallel wraps."""
        return self.loss(normal, anomalous)


def root_sum_of_squares(squared: Tensor, valid: Tensor | None) -> Tensor:
    """Norm over the cells of each tile, from squared distances (n, h, w): float32 (n,).

    Where cells are left out the norm over the others is scaled by sqrt(all / valid), so that tiles compare;
    a tile without a valid cell has NaN.
    """
    if valid is None:
        return squared.flatten(1).sum(1).sqrt()
    share = valid.flatten(1).float().mean(1)
    return (torch.where(valid, squared, 0).flatten(1).sum(1) / share).sqrt()
