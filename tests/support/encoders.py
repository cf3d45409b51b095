"""Encoders of the packaged pretrained network, and images for them."""

import torch

from ssvq.config import Architecture
from ssvq.model.encoders import PACKAGED, build_encoder
from ssvq.model.encoders.backbone import BackboneEncoder
from ssvq.model.encoders.weights import find_weights

LITE = Architecture(encoder=PACKAGED, scale=0.5, dimensions=8, projection=16)


def images(n: int, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pretrained(architecture: Architecture = LITE) -> BackboneEncoder:
    torch.manual_seed(0)
    encoder = build_encoder(architecture)
    assert isinstance(encoder, BackboneEncoder)
    encoder.load_network(find_weights(architecture).tensors)
    return encoder.eval()
