"""The weights of a pretrained network that a training begins with, kept beside its checkpoints until it is done: every
worker reads them there, on any node, and a training that goes on does so with the same.
"""

from ssvq.io import storage
from ssvq.model.encoders.backbone import BackboneEncoder
from ssvq.model.encoders.weights import Pretrained, decode, encode, find_weights
from ssvq.model.settings import Architecture

FILE = "starting-weights.safetensors"


def keep_starting_weights(architecture: Architecture, out: str) -> Pretrained:
    """Find the weights, unless an earlier run has, and put them into the output.

    Raises InputError where nothing has them.
    """
    try:
        return starting_weights(out)
    except FileNotFoundError:
        found = find_weights(architecture)
        BackboneEncoder(architecture).load_network(found.tensors)  # those of another network are said before any work
        storage.put(storage.join(out, FILE), encode(found))
        return found


def starting_weights(out: str) -> Pretrained:
    """Those that the training of an output begins with. Raises FileNotFoundError where there are none."""
    return decode(storage.read_bytes(storage.join(out, FILE)))


def remove_starting_weights(out: str) -> None:
    """When the training is done."""
    storage.remove(storage.join(out, FILE))
