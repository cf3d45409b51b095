"""Reads weight files of other libraries. Nothing in them is executed."""

import io
import pickle
import struct
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ssvq.errors import InputError, reason_of
from ssvq.io import storage

# Errors of torch.load for files that are truncated, damaged, of another kind, or contain code.
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
    """The content of a file by name: .safetensors, or tensors saved by torch.save.

    Raises InputError, which begins with the setting and ends with the advice, if it is missing or of another kind.
    """
    return decode_weights(read_file(location, setting, advice), location, setting, advice)


def read_file(location: str, setting: str, advice: str) -> bytes:
    """The bytes of a file. Raises InputError as `read_weight_file`."""
    try:
        return storage.read_bytes(location)
    except storage.StorageError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {reason_of(error)}"
        raise InputError(f"{setting} {reason}; {advice}") from None


def decode_weights(data: bytes, location: str, setting: str, advice: str) -> dict[str, Any]:
    """The content of a file's bytes by name. Raises InputError as `read_weight_file`."""
    try:
        if location.endswith(".safetensors"):
            return dict(safetensors.torch.load(data))
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE):
        stored = None
    if isinstance(stored, dict):
        return stored
    raise InputError(f"{setting} is not a file of weights as safetensors or torch.save write it; {advice}")
