"""The methods by name. Each is built from the settings that stand in its bundle."""

from typing import Any

import torch

from ssvq.config import Section, TrainConfig
from ssvq.errors import InputError
from ssvq.methods.base import Method
from ssvq.methods.classifier import Classifier
from ssvq.methods.deep_sad import DeepSAD
from ssvq.methods.deep_svdd import DeepSVDD
from ssvq.methods.differnet import DifferNet
from ssvq.methods.oc_svm import OCSVM, OCSVMHybrid
from ssvq.methods.ss_dcae import SSDCAE
from ssvq.methods.ss_gvae import SSGVAE
from ssvq.methods.ss_vae import SSVAE
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.methods.ssad import SSAD, SSADHybrid
from ssvq.model.bundle import Bundle, read_weights

METHODS: dict[str, type[Method]] = {
    "ss-vq-vae": SSVQVAE,
    "deep-svdd": DeepSVDD,
    "deep-sad": DeepSAD,
    "ss-dcae": SSDCAE,
    "ss-vae": SSVAE,
    "ss-gvae": SSGVAE,
    "differnet": DifferNet,
    "oc-svm": OCSVM,
    "oc-svm-hybrid": OCSVMHybrid,
    "ssad": SSAD,
    "ssad-hybrid": SSADHybrid,
    "classifier": Classifier,
}
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in TrainConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The groups of settings by name."""


def build_method(name: str, settings: dict[str, Any]) -> Method:
    """A method with fresh weights, in the memory order that convolutions are fastest in.

    Raises InputError for a name that this version does not know.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is not known to this version; known: {', '.join(METHODS)}")
    method = METHODS[name](**{section: SECTIONS[section](**values) for section, values in settings.items()})
    return method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def method_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that the method of a training is built from: they go into its bundle."""
    return {name: getattr(config, name).model_dump(mode="json") for name in METHODS[config.method].sections}


def load_method(location: str, bundle: Bundle) -> Method:
    """The method of a bundle with its weights. Raises InputError as `build_method` and `read_weights` do."""
    method = build_method(bundle.method, bundle.settings)
    method.load_state_dict(read_weights(location, bundle))
    return method
