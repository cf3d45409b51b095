"""Chooses device and arithmetic of a model by the hardware."""

from contextlib import AbstractContextManager, nullcontext

import torch

from ssvq.errors import InputError
from ssvq.settings import Device, Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: Device) -> torch.device:
    """The device to use. Raises InputError if CUDA is asked for and missing."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no CUDA device; use --device cpu")
    return torch.device(device)


def resolve_precision(
    precision: Precision, device: torch.device, *, pretrained: bool = False, bounded: bool = False
) -> str:
    """`bf16`, `fp16` or `fp32`; by hardware for `auto`.

    bf16 in software would be slower than fp32, and so is bf16 for the depthwise convolutions of pretrained networks on
    CPUs (measured: nine times). `bounded`: all activations fit fp16, which has three bits more than bf16.
    """
    if precision != "auto":
        return precision
    if pretrained and device.type == "cpu":
        return "fp32"
    if device.type == "cuda":
        if bounded:
            return "fp16"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Autocast to a resolved precision."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


def full_fp32(device: torch.device) -> AbstractContextManager[None]:
    """Run fp32 convolutions in full fp32.

    By default a GPU rounds their input to the 10 bits of TF32, and the latents with it, whose small difference from the
    codes is the score. Algorithms are not chosen by trial either, since another trial may choose others, with other
    rounding.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
