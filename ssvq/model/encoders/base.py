"""The interface of an encoder: images in, latents of cells out, and a target for a decoder."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from ssvq.model.settings import Architecture


class Encoder(nn.Module):
    """E: images float32 (n, 3, h, w), normalised, to latents float32 (n, D, h / cell, w / cell).

    `cell`: side of a latent cell in pixels of the image. `values_in_cell`: values of the target for each cell.
    """

    is_pretrained: ClassVar[bool] = False
    """Whether it has a network whose weights are loaded at the start of a training."""

    def __init__(self, *, cell: int, values_in_cell: int) -> None:
        super().__init__()
        self.cell, self.values_in_cell = cell, values_in_cell

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and the target of their decoder: float32 (n, channels, h', w')."""

    @abstractmethod
    def new_decoder(self, architecture: Architecture) -> nn.Module:
        """A decoder from latents (n, D, h / cell, w / cell) to the shape of the target."""

    @abstractmethod
    def over_cells(self, values: Tensor) -> Tensor:
        """Sums over the values of each cell, of a tensor in the shape of the target: (n, h / cell, w / cell)."""

    @abstractmethod
    def start(self, normal: Tensor) -> None:
        """Measure what is fixed before training, on this rank's first normal samples (n, 3, h, w)."""
