"""Whitens colours: red, green and blue of photographs nearly agree, and rust differs from shade by how little they
do not.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.model.ranks import averaged, world_size

LEAST_VARIANCE = 1e-3  # share of the mean variance of the three directions: grey images have none in two of them


class ColourWhitening(nn.Module):
    """Multiplies colours by a fixed matrix (3, 3): the identity, until it is measured.

    The matrix is C^-1/2 of the covariance C of the pixels, so that hue weighs as much as brightness in the first layer
    and in the reconstruction error. Of all such matrices it moves colours least (ZCA).
    """

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(3))

    def forward(self, images: Tensor) -> Tensor:
        """Whiten images (n, 3, h, w), in fp32 also under autocast, which would round small differences away."""
        with torch.autocast(images.device.type, enabled=False):
            return F.conv2d(images.float(), self.matrix[:, :, None, None])

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Measure the matrix on images (n, 3, h, w) of all ranks together; all ranks have equally many."""
        pixels = images.movedim(1, -1).reshape(-1, 3).double()
        moments = torch.cat([pixels.mean(0)[None], pixels.T @ pixels / len(pixels)])
        mean, *second = averaged(moments).cpu()
        variances, directions = torch.linalg.eigh(torch.stack(second) - torch.outer(mean, mean))
        variances = variances.clamp_min(LEAST_VARIANCE * variances.mean().clamp_min(1e-6))
        self.matrix.copy_(directions @ torch.diag(variances.rsqrt()) @ directions.T)
        if world_size() > 1:
            dist.broadcast(self.matrix, src=0)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        """Models from before whitening used colours unchanged."""
        state_dict.setdefault(f"{prefix}matrix", torch.eye(3))
        super()._load_from_state_dict(state_dict, prefix, *rest)
