"""Deep SVDD (Ruff et al., "Deep One-Class Classification", ICML 2018, Eq. 4): normal samples close to a centre.

The encoder is that of ss-VQ-VAE. A sample is represented by one vector, as there: the mean latent of its cells.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ssvq.methods.autoencoder import PretrainedMethod
from ssvq.methods.base import Anomalies, Score, mean_over_cells
from ssvq.methods.settings import Hypersphere, Pretraining
from ssvq.model.settings import Architecture

LEAST_COORDINATE = 0.1  # of the centre: one of 0 could be met by weights of 0


class DeepSVDD(PretrainedMethod):
    """Pre-trained as an autoencoder, without bias terms, with a fixed centre: what keeps all samples from falling
    onto one point (sections 3.3 and 3.4 there). Labelled anomalous samples are not used.
    """

    sections = ("architecture", "pretraining", "hypersphere")
    anomalies: ClassVar[Anomalies] = "unused"
    centre: Tensor

    def __init__(self, architecture: Architecture, pretraining: Pretraining, hypersphere: Hypersphere) -> None:
        super().__init__(architecture, pretraining, bias=False)
        self.hypersphere = hypersphere
        self.register_buffer("centre", torch.zeros(architecture.dimensions))

    def begin(self, normal_mean: Tensor) -> None:
        """Fix the centre at the mean normal latent, no coordinate of it near 0."""
        away = torch.where(normal_mean < 0, -LEAST_COORDINATE, LEAST_COORDINATE)
        self.centre.copy_(torch.where(normal_mean.abs() < LEAST_COORDINATE, away, normal_mean))

    def squared_distance(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """Squared distance of each sample from the centre, float32 (n,)."""
        return (mean_over_cells(self.autoencoder.encoder(images), valid_cells) - self.centre).square().sum(1)

    def own_loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Eq. 4: the mean squared distance of normal samples, and the decay of the weights."""
        distance = self.squared_distance(normal).mean()
        return {"loss": distance + self.decay(), "normal": distance}

    def decay(self) -> Tensor:
        """Half the squared norm of the encoder's weights, times the setting."""
        norms = [weight.square().sum() for weight in self.autoencoder.encoder.parameters()]
        return self.hypersphere.weight_decay / 2 * torch.stack(norms).sum()

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The distance from the centre."""
        return Score(self.squared_distance(tiles, valid_cells).sqrt(), None)
