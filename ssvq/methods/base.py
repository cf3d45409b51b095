"""The interface of a method: what the one training loop trains and the one scorer runs."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.methods.settings import Objective
from ssvq.model.encoders.base import Encoder

if TYPE_CHECKING:  # the former reads files, the latter brings timm
    from ssvq.model.description import Preprocessing
    from ssvq.model.encoders.backbone import BackboneEncoder

WORST_SHARE = 0.02  # of a tile's valid cells, that `score_worst` is of

Anomalies = Literal["unused", "optional", "needed"]


class Score(NamedTuple):
    """Scores of a batch of n tiles: float32 (n,), larger is more anomalous; and the distance of each latent
    cell, float32 (n, h, w), or None for a method that has no cells.
    """

    score: Tensor
    cells: Tensor | None


class Method(nn.Module):
    """A method. Images are float32 (n, 3, h, w), normalised by the bundle's preprocessing.

    It is built from the groups of settings that `sections` names, which go into its bundle. What it is depends on
    nothing but these, its weights and buffers: so a checkpoint may be taken after any step.
    """

    sections: ClassVar[tuple[str, ...]]

    anomalies: ClassVar[Anomalies] = "optional"
    """What labelled anomalous samples are to it: a training draws none, may draw some, or cannot do without."""

    takes_steps: ClassVar[bool] = True
    """Whether it learns by steps of an optimiser; else by `fit` alone."""

    unused_weights: bool = False
    """Whether there are steps in which some of its weights do not enter the loss."""

    sized_by_fit: ClassVar[tuple[str, ...]] = ()
    """Buffers that are empty before `fit`, and have the size of the saved ones in a method that is loaded."""

    fits_samples: int = 0
    """Most training samples that `fit` takes, normal and anomalous together; 0 for a method without `fit`."""

    @staticmethod
    def labels_by_cell(objective: Objective) -> bool:
        """Whether its loss takes labels by cell."""
        return False

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Loss terms of a batch, scalars by name; `loss` is the objective, the others are for the record.

        `anomalous` may hold no sample. `shares`, where labels act by cell: the share of anomalous pixels of each cell
        of normal and anomalous samples, float32 (n + m, h, w), NaN where it is not known.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn by steps")

    @abstractmethod
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Scores of tiles; cells that are not valid, bool (n, h, w), are left out."""

    def score_on_gpu(
        self, preprocessing: "Preprocessing", precision: str
    ) -> Callable[[Tensor, Tensor | None], Score] | None:
        """A faster `score` of tiles as they are, uint8 (n, t, t, 3), with the weights as they are now, if there is one
        for the device that the method is on; else None.
        """
        return None

    @property
    def ready(self) -> bool:
        """Whether the scores mean something yet: not during a pre-training, and not before `fit`."""
        return True

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The weights that learn, in groups for an optimiser: those of a pretrained network have a rate of theirs."""
        backbone = self.backbone
        tuned = [] if backbone is None else backbone.tuned_weights()
        slow = {id(weight) for weight in tuned}
        own = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in slow]
        groups = [{"params": own, "lr": learning_rate}]
        return groups if backbone is None or not tuned else [*groups, {"params": tuned, "lr": backbone.tune_rate}]

    @property
    def backbone(self) -> "BackboneEncoder | None":
        """The encoder that has a pretrained network, if there is one."""
        found = [module for module in self.modules() if isinstance(module, Encoder) and module.is_pretrained]
        return cast("BackboneEncoder", found[0]) if found else None

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Prepare for a training of so many steps on its first normal batch of this rank; called once, before the
        first step.
        """

    def after_step(self, step: int, seed: int) -> dict[str, Tensor]:
        """What is to be done after an optimiser step; returns figures for the record, the same on every rank."""
        return {}

    def fit(self, normal: Tensor, anomalous: Tensor, seed: int) -> None:
        """Fit to samples of the training, after the last step; the same samples on every rank."""

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

    Where cells are left out the norm over the others is scaled by sqrt(all / valid), so that tiles compare;
    a tile without a valid cell has NaN.
    """
    if valid is None:
        return squared.flatten(1).sum(1).sqrt()
    share = valid.flatten(1).float().mean(1)
    return (torch.where(valid, squared, 0).flatten(1).sum(1) / share).sqrt()


def weights_of_cells(shares: Tensor, normal: int) -> tuple[Tensor, Tensor]:
    """How much each cell is pulled in and pushed out, float32 (n, h, w) each, from its share of anomalous pixels, NaN
    where that is not known; the first `normal` samples are normal. A cell that nothing is known of is normal in a
    normal sample that is labelled as a whole, and is neither in an anomalous one or in padding.
    """
    known = ~shares.isnan()
    share = shares.nan_to_num(0.0)
    pulled, pushed = (1 - share) * known, share * known
    as_a_whole = ~known.any(2).any(1)
    as_a_whole[normal:] = False
    return pulled + as_a_whole[:, None, None], pushed


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values with weights of the same shape; 0 where the weights are."""
    return (weights * values).sum() / weights.sum().clamp_min(1e-6)


def mean_over_cells(latents: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of latents (n, D, h, w) over the valid cells of each tile: float32 (n, D), NaN without any."""
    if valid is None:
        return latents.mean((2, 3))
    inside = valid[:, None]
    return torch.where(inside, latents, 0).sum((2, 3)) / inside.sum((2, 3))


def beyond_margin(distance: Tensor, margin: float) -> Tensor:
    """The bounded term of labelled anomalies: mean of max(0, margin - distance)."""
    return F.relu(margin - distance).mean()
