"""Fused kernels of a GPU: their weights anywhere, the kernels themselves where there is a GPU."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.inference.scorer import TileScorer, normalise
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.model import fused
from ssvq.model.description import Preprocessing
from ssvq.model.encoders.paper import PaperEncoder

PREPROCESSING = Preprocessing(tile_size=64, mean=(0.3, 0.5, 0.6), std=(0.2, 0.25, 0.3))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make_method(architecture: Architecture, device: str = "cpu") -> SSVQVAE:
    """Untrained, with whitening, and with codes among its latents: distances are as small as those of a trained one."""
    torch.manual_seed(0)
    method = SSVQVAE(architecture, Objective(), CodebookSettings()).eval()
    method.encoder.start(normalise(some_tiles(4), PREPROCESSING))
    with torch.no_grad():
        latents = method.encode(normalise(some_tiles(8), PREPROCESSING)).movedim(1, 3).flatten(0, 2)
        codes = latents[torch.randperm(len(latents))[: architecture.codes]]
        method.codebook.codes.copy_(codes + 0.05 * latents.std() * torch.randn_like(codes))
    return method.to(device)


def some_tiles(n: int, side: int = 64) -> torch.Tensor:
    """Smooth tiles uint8 (n, side, side, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(n).uniform(0, 255, (n, 3, 8, 8)))
    return F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255).byte().movedim(1, 3).contiguous()


def test_first_layer_takes_pixels_as_they_are() -> None:
    """Also at the edges of a tile, around which nothing is."""
    encoder = make_method(Architecture(encoder="paper", hidden=16)).encoder
    assert isinstance(encoder, PaperEncoder)
    weight = fused.first_layer(encoder, PREPROCESSING)
    assert (weight.shape, weight.dtype) == ((4, 4, 4, 8), torch.float32)
    pixels = some_tiles(2)
    values = torch.cat([pixels.float() - fused.CENTRE, torch.ones(*pixels.shape[:3], 1)], 3).movedim(3, 1)
    found = F.conv2d(values, weight.permute(3, 2, 0, 1), stride=2, padding=1)
    expected = encoder._first(normalise(pixels, PREPROCESSING))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "suited"),
    [
        ({}, True),
        ({"hidden": 64, "residual_layers": 1, "codes": 100}, True),
        ({"hidden": 96}, False),
        ({"residual_hidden": 8}, False),
        ({"residual_layers": 0}, False),
        ({"dimensions": 512}, False),
    ],
)
def test_sizes_that_kernels_take(changes: dict[str, int], suited: bool) -> None:
    method = SSVQVAE(Architecture(encoder="paper", **changes), Objective(), CodebookSettings())
    assert fused.suits(method.encoder, method.codebook) == suited


def test_a_cpu_has_no_kernels_of_its_own() -> None:
    method = make_method(Architecture(encoder="paper", hidden=32, residual_hidden=16))
    assert method.score_on_gpu(PREPROCESSING, "bf16") is None


@needs_gpu
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("codes", [512, 100])
def test_kernels_give_the_scores_of_fp32(layers: int, codes: int) -> None:
    method = make_method(Architecture(encoder="paper", residual_layers=layers, codes=codes), "cuda")
    assert method.score_on_gpu(PREPROCESSING, "bf16") is not None
    pixels = some_tiles(50).numpy()
    exact = TileScorer(method, PREPROCESSING, 16, torch.device("cuda"), "fp32").score(pixels)
    found = TileScorer(method, PREPROCESSING, 16, torch.device("cuda"), "bf16").score(pixels)
    np.testing.assert_allclose(found.score, exact.score, rtol=2e-3)
    assert abs(np.mean(found.score / exact.score) - 1) < 5e-4
    assert found.score_map is not None
    assert exact.score_map is not None
    np.testing.assert_allclose(found.score_map, exact.score_map, rtol=0.05, atol=0.02 * float(exact.score_map.max()))


@needs_gpu
def test_a_tile_has_one_score_whatever_is_beside_it() -> None:
    method = make_method(Architecture(encoder="paper"), "cuda")
    scorer = TileScorer(method, PREPROCESSING, 16, torch.device("cuda"), "bf16")
    pixels = some_tiles(50).numpy()
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(scorer.score(pixels).score[order], scorer.score(pixels[order]).score)


@needs_gpu
def test_kernels_that_cannot_be_built_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(fused.FusedDistances, "__call__", refuse)
    method = make_method(Architecture(encoder="paper"), "cuda")
    assert method.score_on_gpu(PREPROCESSING, "bf16") is None
    assert "Failed to find C compiler" in caplog.text
