"""The methods by name. Each is built from the settings that stand in its bundle."""

import importlib
from typing import Any

import torch

from ssvq.config import Section, TrainConfig
from ssvq.errors import InputError
from ssvq.methods.base import Method
from ssvq.model.bundle import Bundle, read_weights

METHODS = {
    "ss-vq-vae": "ss_vqvae:SSVQVAE",
    "deep-svdd": "deep_svdd:DeepSVDD",
    "deep-sad": "deep_sad:DeepSAD",
    "ss-dcae": "ss_dcae:SSDCAE",
    "ss-vae": "ss_vae:SSVAE",
    "ss-gvae": "ss_gvae:SSGVAE",
    "differnet": "differnet:DifferNet",
    "oc-svm": "oc_svm:OCSVM",
    "oc-svm-hybrid": "oc_svm:OCSVMHybrid",
    "ssad": "ssad:SSAD",
    "ssad-hybrid": "ssad:SSADHybrid",
    "classifier": "classifier:Classifier",
}
"""Module and class by name. A module is imported when its method is asked for: the libraries that all of them need
together take seconds to load, in every process of a job.
"""
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in TrainConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The groups of settings by name."""


def method_class(name: str) -> type[Method]:
    """The class of a method. Raises InputError for a name that this version does not know."""
    if name not in METHODS:
        raise InputError(f"method {name!r} is not known to this version; known: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return found


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """A method with fresh weights, in the memory order that convolutions are fastest in.

    Raises InputError as `method_class` does.
    """
    method = method_class(name)(**{section: SECTIONS[section](**values) for section, values in settings.items()})
    return method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def method_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that the method of a training is built from: they go into its bundle."""
    return {name: getattr(config, name).model_dump(mode="json") for name in method_class(config.method).sections}


def load_method(location: str, bundle: Bundle) -> Method:
    """The method of a bundle with its weights. Raises InputError as `build_method` and `read_weights` do."""
    method = build_method(bundle.method, bundle.settings)
    method.load_state_dict(read_weights(location, bundle))
    return method
