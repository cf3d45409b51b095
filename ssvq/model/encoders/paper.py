"""Encoder and decoder of the ss-VQ-VAE (section IV.D and Fig. 4), fully convolutional.

The latent grid is a quarter of the image in each direction: one cell for `CELL` x `CELL` pixels.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.imagery.grid import CELL
from ssvq.model.encoders.base import Encoder
from ssvq.model.settings import Architecture
from ssvq.model.whitening import ColourWhitening


class ResidualLayer(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), without biases, as in VQ-VAE."""

    def __init__(self, hidden: int, residual_hidden: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(hidden, residual_hidden, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(residual_hidden, hidden, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, hidden, h, w) to the same shape."""
        return x + self.block(x)


def residual_stack(architecture: Architecture) -> nn.Sequential:
    """The residual layers and their final ReLU."""
    layers = [
        ResidualLayer(architecture.hidden, architecture.residual_hidden) for _ in range(architecture.residual_layers)
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class PaperEncoder(Encoder):
    """E: images (n, 3, h, w), normalised, to latents (n, D, h / 4, w / 4).

    `whitening` comes first, and its output is the decoder's target. Without `bias` no layer can give one output for all
    inputs, as Deep SVDD requires.
    """

    def __init__(self, architecture: Architecture, *, bias: bool = True) -> None:
        super().__init__(cell=CELL, values_in_cell=3 * CELL**2)
        hidden = architecture.hidden
        self.whiten_colours = architecture.whiten_colours
        self.whitening = ColourWhitening()
        self.features = nn.Sequential(
            nn.Conv2d(3, hidden // 2, 4, stride=2, padding=1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden // 2, hidden, 4, stride=2, padding=1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias),
            residual_stack(architecture),
        )
        self.to_latent = nn.Conv2d(hidden, architecture.dimensions, 1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Latents.

        The first and the last layer are in fp32 also under autocast: colours nearly agree, and the score is a
        difference of nearly equal vectors, which half precision would blur.
        """
        with torch.autocast(images.device.type, enabled=False):
            features = self._first(images.float())
        features = self.features[1:](features)
        with torch.autocast(features.device.type, enabled=False):
            return self.to_latent(features.float())

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and the whitened images."""
        return self(images), self.whitening(images)

    def new_decoder(self, architecture: Architecture) -> nn.Module:
        """The paper's decoder."""
        return PaperDecoder(architecture)

    def over_cells(self, values: Tensor) -> Tensor:
        """Sums over the pixels of each cell, of (n, channels, h, w): (n, h / 4, w / 4)."""
        return F.avg_pool2d(values.sum(1, keepdim=True), CELL)[:, 0] * CELL**2

    def _first(self, images: Tensor) -> Tensor:
        """The first convolution of whitened images. Whitening is linear: its matrix goes into the weights and costs
        no pass over the pixels.
        """
        first = cast(nn.Conv2d, self.features[0])
        weight = torch.einsum("ocyx,ci->oiyx", first.weight, self.whitening.matrix)
        return F.conv2d(images, weight, first.bias, stride=2, padding=1)

    def start(self, normal: Tensor) -> None:
        """Measure the whitening, if it is enabled, on the first normal samples (n, 3, h, w)."""
        if self.whiten_colours:
            self.whitening.start_from(normal)


class PaperDecoder(nn.Module):
    """D: quantised latents (n, D, h / 4, w / 4) to reconstructions (n, 3, h, w) of the whitened images."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden = architecture.hidden
        self.layers = nn.Sequential(
            nn.Conv2d(architecture.dimensions, hidden, 3, padding=1),
            residual_stack(architecture),
            nn.ConvTranspose2d(hidden, hidden // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden // 2, 3, 4, stride=2, padding=1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Reconstructions in the precision that autocast gives."""
        return self.layers(latents)
