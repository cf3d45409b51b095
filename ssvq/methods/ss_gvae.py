"""ss-gVAE (Sharma et al., "A Semi-Supervised Generalized VAE Framework for Abnormality Detection Using One-Class
Classification", WACV 2022; reference 22 of the paper): ss-VAE with generalised Gaussians, whose shape is learned.

A generalised Gaussian of location m, scale a and shape q has the density exp(-(|x - m| / a)^q) q / (2 a Gamma(1 / q)).
With q = 2 it is the Gaussian, with q = 1 Laplace's; a smaller q has heavier tails.
"""

import math

import torch
from torch import Tensor, nn

from ssvq.methods.settings import Objective
from ssvq.methods.ss_vae import SSVAE
from ssvq.model.settings import Architecture

SHAPES = (0.5, 4.0)  # bounds: a shape under 0.5 has gradients without end at 0, over 4 it is nearly a box
LEAST_DEVIATION = 1e-6  # |x|^q has no gradient at 0 for q < 1


class SSGVAE(SSVAE):
    """One shape for the residual and one for the latents, both starting from the Gaussian's.

    The prior has variance 1 in every shape. The divergence has no closed form: it is estimated from the one latent
    that is drawn in training, and approximated at the location of the posterior for a score.
    """

    def __init__(self, architecture: Architecture, objective: Objective) -> None:
        super().__init__(architecture, objective)
        self.residual_log_shape = nn.Parameter(torch.tensor(math.log(2)))
        self.latent_log_shape = nn.Parameter(torch.tensor(math.log(2)))

    def residual_shape(self) -> Tensor:
        """Shape q of the residual, within SHAPES."""
        return self.residual_log_shape.exp().clamp(*SHAPES)

    def latent_shape(self) -> Tensor:
        """Shape q of posterior and prior, within SHAPES."""
        return self.latent_log_shape.exp().clamp(*SHAPES)

    def sample(self, location: Tensor, log_scale: Tensor) -> Tensor:
        """(|x - m| / a)^q of a generalised Gaussian has the Gamma distribution of shape 1 / q."""
        shape = self.latent_shape()
        power = torch.distributions.Gamma((1 / shape).expand(location.shape), 1.0).rsample()
        sign = torch.randint_like(location, 2) * 2 - 1
        return location + sign * log_scale.exp() * (power + LEAST_DEVIATION) ** (1 / shape)

    def training_divergence(self, latents: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """log posterior - log prior of the latents, the former as its mean, by element."""
        prior = ((latents.abs() + LEAST_DEVIATION) / self._prior_scale()) ** self.latent_shape()
        return prior + self._normalisers(log_scale)

    def divergence(self, location: Tensor, log_scale: Tensor) -> Tensor:
        """With |m|^q + a^q / q for the mean of |x|^q over the posterior, which is exact for q = 2; not negative."""
        shape, scale = self.latent_shape(), self._prior_scale()
        prior = (location.abs() / scale) ** shape + (log_scale.exp() / scale) ** shape / shape
        return (prior + self._normalisers(log_scale)).clamp_min(0)

    def _normalisers(self, log_scale: Tensor) -> Tensor:
        """Those of posterior and prior, and the mean of (|x - m| / a)^q over the posterior, which is 1 / q."""
        return self._prior_scale().log() - log_scale - 1 / self.latent_shape()

    def _prior_scale(self) -> Tensor:
        """Scale of variance 1: a^2 = Gamma(1 / q) / Gamma(3 / q)."""
        shape = self.latent_shape()
        return ((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2).exp()

    def energy(self, residual: Tensor) -> Tensor:
        """(|r| / a)^q."""
        deviation = (residual.abs() + LEAST_DEVIATION) / self._residual_log_scale().exp()
        return deviation ** self.residual_shape()

    def normaliser(self) -> Tensor:
        """log(2 a Gamma(1 + 1 / q))."""
        return self._residual_log_scale() + math.log(2) + torch.lgamma(1 + 1 / self.residual_shape())
