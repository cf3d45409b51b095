"""The methods by name. Each is built from the settings that stand in its bundle."""

from typing import Any

import torch

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.errors import InputError
from ssvq.methods.base import Method
from ssvq.methods.ss_vqvae import SSVQVAE

DEFAULT_METHOD = "ss-vq-vae"


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """A method with fresh weights, in the memory order that convolutions are fastest in.

    Raises InputError for a name that this version does not know.
    """
    if name != DEFAULT_METHOD:
        raise InputError(f"method {name!r} is not known to this version; known: {DEFAULT_METHOD}")
    method = SSVQVAE(
        Architecture(**settings["architecture"]),
        Objective(**settings["objective"]),
        CodebookSettings(**settings["codebook"]),
    )
    return method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
