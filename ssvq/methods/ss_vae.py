"""ss-VAE: a variational autoencoder (Kingma and Welling, ICLR 2014, Eq. 10) with labelled anomalies, all Gaussian.

Each latent cell has a posterior N(mean, variance) in place of a code, so that it is ss-VQ-VAE without its vector
quantisation.
"""

import math

import torch
from torch import Tensor, nn

from ssvq.methods.base import Method, Score, beyond_margin, root_sum_of_squares
from ssvq.methods.settings import Objective
from ssvq.model.encoders import build_encoder
from ssvq.model.settings import Architecture

LARGEST_LOG_SCALE = 7.0  # of a posterior or a residual: its exponential is neither 0 nor without end


class SSVAE(Method):
    """`bounded` (default): the divergence of the posterior of anomalous samples from the prior, a mean over cells and
    dimensions, is to be beyond a margin, as their distance from the codebook is in ss-VQ-VAE. `paper`: their negative
    evidence lower bound is negated as in Eq. 3, and unbounded below.

    The scale of the residual is learned, one for all pixels (Rybkin et al., "Simple and Effective VAE Training with
    Calibrated Decoders", ICML 2021).
    """

    sections = ("architecture", "objective")

    def __init__(self, architecture: Architecture, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.encoder = build_encoder(architecture.model_copy(update={"dimensions": 2 * architecture.dimensions}))
        self.decoder = self.encoder.new_decoder(architecture)
        self.residual_log_scale = nn.Parameter(torch.zeros(()))

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch."""
        self.encoder.start(normal)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location and log scale of the latents of images (n, 3, h, w): float32 (n, D, h', w') each; and the target of
        the decoder.
        """
        latents, target = self.encoder.encode(images)
        location, log_scale = latents.chunk(2, 1)
        return location, log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE), target

    def sample(self, location: Tensor, log_scale: Tensor) -> Tensor:
        """A latent of the posterior, for training."""
        return location + log_scale.exp() * torch.randn_like(location)

    def divergence(self, location: Tensor, log_scale: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the posterior from the prior N(0, 1), by element; not negative."""
        return (location.square() + (2 * log_scale).exp() - 1) / 2 - log_scale

    def energy(self, residual: Tensor) -> Tensor:
        """Negative log likelihood of a residual, by element, less what does not depend on it; not negative."""
        return (residual / self._residual_log_scale().exp()).square() / 2

    def normaliser(self) -> Tensor:
        """What `energy` leaves out, a scalar."""
        return self._residual_log_scale() + math.log(2 * math.pi) / 2

    def _residual_log_scale(self) -> Tensor:
        return self.residual_log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """eta x normal + (1 - eta) x anomalous; bounds by value of a pixel, divergences by dimension of a cell."""
        n, objective = len(normal), self.objective
        images = torch.cat([normal, anomalous])
        location, log_scale, target = self.posterior(images)
        latents = self.sample(location, log_scale)
        divergence = self.training_divergence(latents, location, log_scale)
        residual = self.decoder(latents).float() - target
        reconstruction = self.energy(residual).mean((1, 2, 3)) + self.normaliser()
        from_prior = divergence.sum(1).mean((1, 2)) / self.encoder.values_in_cell
        bound = reconstruction + objective.beta * from_prior
        parts = {"reconstruction": reconstruction[:n].mean(), "divergence": from_prior[:n].mean()}
        parts["normal"] = bound[:n].mean()
        loss = objective.eta * parts["normal"]
        if len(anomalous):
            far = divergence[n:].mean((1, 2, 3))
            paper = objective.name == "paper"
            parts["anomalous"] = -bound[n:].mean() if paper else beyond_margin(far, objective.margin)
            parts["anomalous_distance"] = far.mean()
            loss = loss + (1 - objective.eta) * parts["anomalous"]
        return {"loss": loss, **parts}

    def training_divergence(self, latents: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """The divergence that is minimised, by element; `latents` were drawn from the posterior."""
        return self.divergence(location, log_scale)

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """The root of the negative evidence lower bound at the posterior's location, less its constant, so that a
        tile always has the same; and that of each cell.
        """
        location, log_scale, target = self.posterior(tiles)
        residual = self.decoder(location).float() - target
        divergence = self.divergence(location, log_scale).sum(1)
        bound = self.encoder.over_cells(self.energy(residual)) + self.objective.beta * divergence
        return Score(root_sum_of_squares(bound, valid_cells), bound.sqrt())
