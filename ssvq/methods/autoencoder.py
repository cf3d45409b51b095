"""What an encoder learns by itself: to reconstruct its input. It stands alone in ss-DCAE, comes before Deep SVDD,
Deep SAD and DifferNet, and is under the hybrid kernel methods.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ssvq.methods.base import Method
from ssvq.methods.settings import Pretraining
from ssvq.model.encoders import build_encoder
from ssvq.model.ranks import averaged
from ssvq.model.settings import Architecture


class Autoencoder(nn.Module):
    """Encoder and decoder of ss-VQ-VAE without the codebook between them."""

    def __init__(self, architecture: Architecture, *, bias: bool = True) -> None:
        super().__init__()
        self.encoder = build_encoder(architecture, bias=bias)
        self.decoder = self.encoder.new_decoder(architecture)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, D, h', w') of images (n, 3, h, w), and the squared errors of the encoder's target, float32, in
        its shape.
        """
        latents, target = self.encoder.encode(images)
        return latents, (self.decoder(latents).float() - target).square()


class PretrainedMethod(Method):
    """A method that begins as an autoencoder. `pretraining_left` steps of that are to come; the method itself
    begins with the mean normal latent of the last of them.
    """

    unused_weights = True
    pretraining_left: Tensor

    def __init__(self, architecture: Architecture, pretraining: Pretraining, *, bias: bool = True) -> None:
        super().__init__()
        self.pretraining = pretraining
        self.autoencoder = Autoencoder(architecture, bias=bias)
        self.register_buffer("pretraining_left", torch.zeros((), dtype=torch.int64))
        self._normal_mean: Tensor | None = None

    @property
    def ready(self) -> bool:
        """Not during the pre-training."""
        return int(self.pretraining_left) == 0

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch; set how long the pre-training is, at least one step."""
        self.autoencoder.encoder.start(normal)
        self.pretraining_left.fill_(max(1, round(self.pretraining.share * steps)))

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """The mean squared error of the reconstruction of normal samples, and then the loss of the method."""
        if self.ready:
            return self.own_loss(normal, anomalous)
        latents, errors = self.autoencoder(normal)
        self._normal_mean = latents.detach().mean((0, 2, 3))
        return {"loss": errors.mean(), "reconstruction": errors.mean()}

    def after_step(self, step: int, seed: int) -> dict[str, Tensor]:
        """Count the pre-training down; after its last step the method begins."""
        mean, self._normal_mean = self._normal_mean, None
        if mean is not None:
            self.pretraining_left -= 1
            if int(self.pretraining_left) == 0:
                self.begin(averaged(mean))
        return {}

    @abstractmethod
    def own_loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Loss terms after the pre-training."""

    def begin(self, normal_mean: Tensor) -> None:
        """Start the method: the mean latent of the last normal samples, float32 (D,), the same on every rank."""
