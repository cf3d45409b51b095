"""Device and arithmetic follow the hardware, and never fall back without a word."""

import pytest
import torch

from ssvq.errors import InputError
from ssvq.model.encoders import is_bounded
from ssvq.model.precision import autocast, full_fp32, resolve_device, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_cuda_where_it_is(monkeypatch: pytest.MonkeyPatch, available: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto").type == kind
    assert resolve_device("cpu").type == "cpu"


def test_cuda_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"--device cuda.*--device cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"avx512_bf16": False, "avx2": True}, "fp32"), ({}, "fp32")],
)
def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", CPU) == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    # An older GPU emulates bf16, slowly, and says so only when asked without emulation.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert resolve_precision("auto", CUDA) == precision


def test_a_network_that_fits_fp16_has_its_bits_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert is_bounded("tf_efficientnet_lite0")
    assert not is_bounded("wide_resnet50_2")
    assert resolve_precision("auto", CUDA, pretrained=True, bounded=True) == "fp16"
    assert resolve_precision("auto", CUDA, pretrained=True) == "bf16"
    assert resolve_precision("auto", CPU, pretrained=True, bounded=True) == "fp32"
    assert resolve_precision("bf16", CUDA, pretrained=True, bounded=True) == "bf16"


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_what_is_asked_for_is_taken(precision: str) -> None:
    assert resolve_precision(precision, CPU) == precision  # type: ignore[arg-type]
    assert resolve_precision(precision, CUDA) == precision  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast_computes_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_scores_on_a_gpu_are_not_rounded_to_tf32_nor_chosen_by_trial() -> None:
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    with full_fp32(CUDA):
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic
        assert torch.backends.cudnn.enabled
    assert (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    ) == before
    with full_fp32(CPU):
        assert torch.backends.cudnn.allow_tf32 == before[0]
