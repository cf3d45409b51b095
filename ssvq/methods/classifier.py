"""A supervised classifier on the encoder of ss-VQ-VAE: the reference that tells what the labels alone are worth.

The latents are averaged over the grid and give one logit; it is trained with the binary cross-entropy of logistic
regression on the same normal and labelled anomalous samples. Where labels act by cell, each cell has its logit and its
label: supervised segmentation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.methods.base import Method, Score, mean_over_cells, weights_of_cells
from ssvq.methods.settings import Objective
from ssvq.model.encoders import build_encoder
from ssvq.model.settings import Architecture


class Classifier(Method):
    """One logit for a sample, larger is more anomalous; normal and anomalous samples weigh as they stand in a batch."""

    sections = ("architecture",)
    anomalies = "needed"

    @staticmethod
    def labels_by_cell(objective: Objective) -> bool:
        """Where they are set to."""
        return objective.labels == "cell"

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = build_encoder(architecture)
        self.to_logit = nn.Linear(architecture.dimensions, 1)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of the cells of images (n, 3, h, w), float32 (n, h / cell, w / cell)."""
        latents = self.encoder(images)
        with torch.autocast(latents.device.type, enabled=False):
            return self.to_logit(latents.movedim(1, 3))[..., 0]

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch."""
        self.encoder.start(normal)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Binary cross-entropy, mean over the batch, and its mean over each class."""
        n, logits = len(normal), self.logits(torch.cat([normal, anomalous]))
        if shares is not None:
            return self._loss_by_cell(logits, n, shares)
        targets = torch.zeros(len(logits), device=logits.device)
        targets[n:] = 1
        terms = F.binary_cross_entropy_with_logits(logits.mean((1, 2)), targets, reduction="none")
        parts = {"normal": terms[:n].mean()}
        if len(anomalous):
            parts["anomalous"] = terms[n:].mean()
        return {"loss": terms.mean(), **parts}

    @staticmethod
    def _loss_by_cell(logits: Tensor, normal: int, shares: Tensor) -> dict[str, Tensor]:
        pulled, pushed = weights_of_cells(shares, normal)
        parts = {"normal": (pulled * F.softplus(logits)).mean(), "anomalous": (pushed * F.softplus(-logits)).mean()}
        as_a_whole = shares[normal:].isnan().all(2).all(1)
        whole = F.softplus(-logits[normal:].mean((1, 2))) * as_a_whole
        parts["anomalous"] = parts["anomalous"] + whole.sum() / len(logits)
        return {"loss": parts["normal"] + parts["anomalous"], **parts}

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The mean logit over the valid cells, NaN without any; of each cell the probability that its logit gives."""
        logits = self.logits(tiles)
        return Score(mean_over_cells(logits[:, None], valid_cells)[:, 0], logits.sigmoid())
