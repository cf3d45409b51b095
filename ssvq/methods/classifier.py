"""A supervised classifier on the encoder of ss-VQ-VAE: the reference that tells what the labels alone are worth.

The latents are averaged over the grid and give one logit; it is trained with the binary cross-entropy of logistic
regression on the same normal and labelled anomalous samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.config import Architecture
from ssvq.methods.base import Method, Score, mean_over_cells
from ssvq.model.encoders import build_encoder


class Classifier(Method):
    """One logit for a sample, larger is more anomalous; normal and anomalous samples weigh as they stand in a batch."""

    sections = ("architecture",)
    anomalies = "needed"

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = build_encoder(architecture)
        self.to_logit = nn.Linear(architecture.dimensions, 1)

    def logits(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """Logits float32 (n,) of images (n, 3, h, w), from the mean over their valid cells; NaN without any."""
        pooled = mean_over_cells(self.encoder(images), valid_cells)
        with torch.autocast(pooled.device.type, enabled=False):
            return self.to_logit(pooled)[:, 0]

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch."""
        self.encoder.start(normal)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Binary cross-entropy, mean over the batch, and its mean over each class."""
        logits = self.logits(torch.cat([normal, anomalous]))
        targets = torch.zeros_like(logits)
        targets[len(normal) :] = 1
        terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        parts = {"normal": terms[: len(normal)].mean()}
        if len(anomalous):
            parts["anomalous"] = terms[len(normal) :].mean()
        return {"loss": terms.mean(), **parts}

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The logit; a classifier has no distances of cells."""
        return Score(self.logits(tiles, valid_cells), None)
