"""The pretrained weights at the start of a training, kept beside its checkpoints until it ends.

Every worker on any node reads them there, and a resumed training uses the same.
"""

from ssvq.io import storage
from ssvq.model.encoders.backbone import BackboneEncoder
from ssvq.model.encoders.weights import Pretrained, decode, encode, find_weights
from ssvq.model.settings import Architecture

FILE = "starting-weights.safetensors"


def keep_starting_weights(architecture: Architecture, out: str) -> Pretrained:
    """Find the weights, unless an earlier run has, and copy them to the output. Raises InputError if none are found."""
    try:
        return starting_weights(out)
    except FileNotFoundError:
        found = find_weights(architecture)
        BackboneEncoder(architecture).load_network(found.tensors)  # another network is refused before any work
        storage.put(storage.join(out, FILE), encode(found))
        return found


def starting_weights(out: str) -> Pretrained:
    """The weights with which the training of an output begins. Raises FileNotFoundError if there are none."""
    return decode(storage.read_bytes(storage.join(out, FILE)))


def remove_starting_weights(out: str) -> None:
    """Remove the weights when the training is done."""
    storage.remove(storage.join(out, FILE))
