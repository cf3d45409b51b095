"""Files of weights that other libraries wrote. Nothing in them is run."""

import io
import pickle
import struct
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ssvq.errors import InputError, reason_of
from ssvq.io import storage

# What torch.load has been seen to raise for files that are cut off, damaged, of another kind, or that hold code.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_weight_file(location: str, setting: str, advice: str) -> dict[str, Any]:
    """What a file holds by name: .safetensors, or what torch.save wrote of tensors alone.

    Raises InputError, which begins with the setting and ends with the advice, where it is missing or no such file.
    """
    return decode_weights(read_file(location, setting, advice), location, setting, advice)


def read_file(location: str, setting: str, advice: str) -> bytes:
    """The bytes of a file. Raises InputError as `read_weight_file` does."""
    try:
        return storage.read_bytes(location)
    except storage.StorageError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {reason_of(error)}"
        raise InputError(f"{setting} {reason}; {advice}") from None


def decode_weights(data: bytes, location: str, setting: str, advice: str) -> dict[str, Any]:
    """What the bytes of a file hold by name. Raises InputError as `read_weight_file` does."""
    try:
        if location.endswith(".safetensors"):
            return dict(safetensors.torch.load(data))
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE):
        stored = None
    if isinstance(stored, dict):
        return stored
    raise InputError(f"{setting} is not a file of weights as safetensors or torch.save write it; {advice}")
