"""Builds methods from the settings in their bundles, and loads their weights."""

import importlib
from typing import Any, Protocol

import torch
from torch import Tensor

from ssvq.errors import InputError, reason_of
from ssvq.methods.base import Method
from ssvq.methods.registry import METHODS
from ssvq.methods.settings import MethodSettings
from ssvq.model.bundle import read_description, read_weights
from ssvq.model.description import Bundle
from ssvq.model.settings import Architecture, CodebookSettings
from ssvq.settings import Section

SECTIONS: dict[str, type[Section]] = {
    "architecture": Architecture,
    "codebook": CodebookSettings,
    **{name: type(field.default) for name, field in MethodSettings.model_fields.items()},
}
"""The groups of settings that build methods, by name."""


LAYERS = ("residual_layers", "blocks")  # settings that count layers, each with its own weights


class TrainedBy(Protocol):
    """The settings of a training, with a group for each name in SECTIONS."""

    @property
    def method(self) -> str:
        """The name of the method."""


def method_class(name: str) -> type[Method]:
    """The class of a method. Raises InputError for a name that this version does not know."""
    if name not in METHODS:
        raise InputError(f"method {name!r} is not known to this version; known: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(f"ssvq.methods.{module}"), attribute)
    return found


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """Build a method with fresh weights, in the memory order that is fastest for convolutions. Raises InputError as
    `method_class`.
    """
    method = method_class(name)(**{section: SECTIONS[section](**values) for section, values in settings.items()})
    return method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def method_settings(config: TrainedBy) -> dict[str, Any]:
    """The settings that build the method of a training. They go into its bundle."""
    return {name: getattr(config, name).model_dump(mode="json") for name in method_class(config.method).sections}


def read_bundle(location: str) -> Bundle:
    """Read the description of a bundle after checking its method and weights, before any work is distributed.

    Raises InputError as `read_description` and `load_method`.
    """
    bundle = read_description(location)
    load_method(location, bundle)
    return bundle


def load_method(location: str, bundle: Bundle) -> Method:
    """Load the method of a bundle with its weights.

    The settings are compared with the weights before memory is allocated. Raises InputError as `build_method` and
    `read_weights`, and if settings and weights do not match.
    """
    weights = read_weights(location, bundle)
    layers = [values.get(name) for values in bundle.settings.values() for name in LAYERS]
    if any(isinstance(number, int) and number > len(weights) for number in layers):
        raise InputError(f"{location} is damaged: its settings have more layers than there are weights")
    try:
        with torch.device("meta"):
            expected = build_method(bundle.method, bundle.settings).state_dict()
        method = build_method(bundle.method, bundle.settings) if _fit(weights, expected) else None
        if method is not None:
            method.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = reason_of(error, most=200)
        raise InputError(f"{location} is damaged: no {bundle.method} is made of its settings: {reason}") from None
    if method is None:
        raise InputError(f"{location} is damaged: its weights are not those that its settings describe")
    return method


def _fit(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Whether weights have the names, shapes and types of a method. A kernel method may hold any number of samples,
    so its tensors are empty in a fresh one.
    """
    return weights.keys() == expected.keys() and all(
        weights[name].is_floating_point() == like.is_floating_point()
        and not weights[name].is_complex()
        and (weights[name].shape == like.shape or (like.numel() == 0 and weights[name].dim() == like.dim()))
        for name, like in expected.items()
    )
