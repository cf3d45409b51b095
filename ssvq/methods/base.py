"""The interface of a method: the training loop trains it and the scorer runs it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.methods.settings import Objective
from ssvq.model.encoders.base import Encoder

if TYPE_CHECKING:  # the former reads files, the latter imports timm
    from ssvq.model.description import Preprocessing
    from ssvq.model.encoders.backbone import BackboneEncoder

WORST_SHARE = 0.02  # share of a tile's valid cells for `score_worst`

Anomalies = Literal["unused", "optional", "needed"]


class Score(NamedTuple):
    """Scores of a batch of n tiles: float32 (n,), larger is more anomalous; and the distance of each latent cell,
    float32 (n, h, w), or None for a method without cells.
    """

    score: Tensor
    cells: Tensor | None


class Method(nn.Module):
    """A method. Images are float32 (n, 3, h, w), normalised by the bundle's preprocessing.

    It is built from the groups of settings in `sections`, which go into its bundle. It depends only on these, its
    weights and its buffers, so a checkpoint can be taken after any step.
    """

    sections: ClassVar[tuple[str, ...]]

    anomalies: ClassVar[Anomalies] = "optional"
    """Its use of labelled anomalous samples: a training draws none, may draw some, or needs some."""

    takes_steps: ClassVar[bool] = True
    """Whether it learns by optimiser steps; else by `fit` alone."""

    unused_weights: bool = False
    """Whether some steps leave some of its weights out of the loss."""

    sized_by_fit: ClassVar[tuple[str, ...]] = ()
    """Buffers that are empty before `fit`, and have the saved size in a loaded method."""

    fits_samples: int = 0
    """Most training samples for `fit`, normal and anomalous together; 0 for a method without `fit`."""

    @staticmethod
    def labels_by_cell(objective: Objective) -> bool:
        """Whether its loss uses labels by cell."""
        return False

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Loss terms of a batch, scalars by name. `loss` is the objective; the others are logged.

        `anomalous` may be empty. `shares`, if labels act by cell: the anomalous share of each cell of normal and
        anomalous samples, float32 (n + m, h, w), NaN if unknown.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn by steps")

    @abstractmethod
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Scores of tiles. Cells that are False in `valid_cells`, bool (n, h, w), are left out."""

    def score_on_gpu(
        self, preprocessing: "Preprocessing", precision: str
    ) -> Callable[[Tensor, Tensor | None], Score] | None:
        """A faster `score` of raw tiles, uint8 (n, t, t, 3), with the current weights, if there is one for the
        method's device; else None.
        """
        return None

    @property
    def ready(self) -> bool:
        """Whether its scores are meaningful: not during pre-training, and not before `fit`."""
        return True

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The trainable weights, in groups for an optimiser; those of a pretrained network have their own rate."""
        backbone = self.backbone
        tuned = [] if backbone is None else backbone.tuned_weights()
        slow = {id(weight) for weight in tuned}
        own = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in slow]
        groups = [{"params": own, "lr": learning_rate}]
        return groups if backbone is None or not tuned else [*groups, {"params": tuned, "lr": backbone.tune_rate}]

    @property
    def backbone(self) -> "BackboneEncoder | None":
        """The encoder with a pretrained network, if there is one."""
        found = [module for module in self.modules() if isinstance(module, Encoder) and module.is_pretrained]
        return cast("BackboneEncoder", found[0]) if found else None

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Prepare for a training of `steps` steps on this rank's first normal batch. Called once, before the first
        step.
        """

    def after_step(self, step: int, seed: int) -> dict[str, Tensor]:
        """Called after each optimiser step. Returns figures to log, equal on every rank."""
        return {}

    def fit(self, normal: Tensor, anomalous: Tensor, seed: int) -> None:
        """Fit to samples of the training, after the last step; all ranks get the same samples."""

    def forward(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """`loss`, under the name that DistributedDataParallel wraps."""
        return self.loss(normal, anomalous, shares)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in self.sized_by_fit:
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def rows_of_cells(maps: Tensor) -> Tensor:
    """Maps (n, D, h, w) as a matrix with a row for each cell, (n h w, D)."""
    return maps.movedim(1, 3).reshape(-1, maps.shape[1])


def root_sum_of_squares(squared: Tensor, valid: Tensor | None) -> Tensor:
    """Norm over the cells of each tile, from squared distances (n, h, w): float32 (n,).

    Without some cells, the norm over the others is scaled by sqrt(all / valid), so that tiles compare; a tile without a
    valid cell has NaN.
    """
    if valid is None:
        return squared.flatten(1).sum(1).sqrt()
    share = valid.flatten(1).float().mean(1)
    return (torch.where(valid, squared, 0).flatten(1).sum(1) / share).sqrt()


def weights_of_cells(shares: Tensor, normal: int) -> tuple[Tensor, Tensor]:
    """Weights with which each cell is pulled in and pushed out, float32 (n, h, w) each, from its anomalous share, NaN
    if unknown; the first `normal` samples are normal.

    An unknown cell is normal in a normal sample that is labelled as a whole; in an anomalous sample or in padding it
    has no weight.
    """
    known = ~shares.isnan()
    share = shares.nan_to_num(0.0)
    pulled, pushed = (1 - share) * known, share * known
    as_a_whole = ~known.any(2).any(1)
    as_a_whole[normal:] = False
    return pulled + as_a_whole[:, None, None], pushed


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values with weights of the same shape; 0 if all weights are 0."""
    return (weights * values).sum() / weights.sum().clamp_min(1e-6)


def mean_over_cells(latents: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of latents (n, D, h, w) over the valid cells of each tile: float32 (n, D), NaN without any."""
    if valid is None:
        return latents.mean((2, 3))
    inside = valid[:, None]
    return torch.where(inside, latents, 0).sum((2, 3)) / inside.sum((2, 3))


def beyond_margin(distance: Tensor, margin: float) -> Tensor:
    """The bounded term for labelled anomalies: mean of max(0, margin - distance)."""
    return F.relu(margin - distance).mean()
