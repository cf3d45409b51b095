"""ss-DCAE: a convolutional autoencoder (reference 16 of the paper: Makhzani and Frey, "Winner-Take-All Autoencoders",
NeurIPS 2015) that reconstructs normal samples and not labelled anomalous ones. Reconstruction alone: no codebook.
"""

import torch
from torch import Tensor

from ssvq.methods.autoencoder import Autoencoder
from ssvq.methods.base import Method, Score, beyond_margin, root_sum_of_squares
from ssvq.methods.settings import Bottleneck, Objective
from ssvq.model.settings import Architecture


class SSDCAE(Method):
    """`bounded` (default): the reconstruction error of anomalous samples is to be beyond a margin; of 1, it is what
    the mean colour in place of a reconstruction has. `paper`: it is negated as in Eq. 3, and unbounded below.
    """

    sections = ("architecture", "objective", "bottleneck")

    def __init__(self, architecture: Architecture, objective: Objective, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.objective = objective
        self.autoencoder = Autoencoder(architecture.model_copy(update={"dimensions": bottleneck.dimensions}))

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch."""
        self.autoencoder.encoder.start(normal)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """eta x normal + (1 - eta) x anomalous, of squared errors as means over the values of a sample."""
        n, objective = len(normal), self.objective
        errors = self.autoencoder(torch.cat([normal, anomalous]))[1].mean((1, 2, 3))
        parts = {"normal": errors[:n].mean()}
        loss = objective.eta * parts["normal"]
        if len(anomalous):
            far = errors[n:]
            parts["anomalous"] = -far.mean() if objective.name == "paper" else beyond_margin(far, objective.margin)
            parts["anomalous_distance"] = far.mean()
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        return {"loss": loss, **parts}

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The norm of the reconstruction error, and that of the pixels of each cell."""
        squared = self.autoencoder.encoder.over_cells(self.autoencoder(tiles)[1])
        return Score(root_sum_of_squares(squared, valid_cells), squared.sqrt())
