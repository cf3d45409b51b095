"""The network's layers are the paper's (section IV.D, Fig. 4), and it is fully convolutional."""

import pytest
import torch
from torch import nn

from ssvq.config import Architecture
from ssvq.imagery.grid import CELL
from ssvq.model.encoders.paper import PaperDecoder, PaperEncoder, ResidualLayer, residual_stack

PAPER = Architecture()
TINY = Architecture(hidden=8, residual_hidden=4, residual_layers=1, codes=16, dimensions=4)


def convolutions(module: nn.Module) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Kind, weight shape and stride of every convolution, in order."""
    return [
        (type(layer).__name__, tuple(layer.weight.shape), layer.stride)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]


RESIDUAL_LAYER = [("Conv2d", (32, 128, 3, 3), (1, 1)), ("Conv2d", (128, 32, 1, 1), (1, 1))]


def test_the_encoder_is_the_papers() -> None:
    assert convolutions(PaperEncoder(PAPER)) == [
        ("Conv2d", (64, 3, 4, 4), (2, 2)),
        ("Conv2d", (128, 64, 4, 4), (2, 2)),
        ("Conv2d", (128, 128, 3, 3), (1, 1)),
        *RESIDUAL_LAYER,
        *RESIDUAL_LAYER,
        ("Conv2d", (64, 128, 1, 1), (1, 1)),
    ]


def test_the_decoder_is_the_papers() -> None:
    assert convolutions(PaperDecoder(PAPER)) == [
        ("Conv2d", (128, 64, 3, 3), (1, 1)),  # Fig. 4 draws 1x1, the text says 3x3
        *RESIDUAL_LAYER,
        *RESIDUAL_LAYER,
        ("ConvTranspose2d", (128, 64, 4, 4), (2, 2)),
        ("ConvTranspose2d", (64, 3, 4, 4), (2, 2)),
    ]


@pytest.mark.parametrize("size", [(64, 64), (4, 4), (20, 36), (100, 12)])
@pytest.mark.parametrize("architecture", [PAPER, TINY])
def test_shapes(architecture: Architecture, size: tuple[int, int]) -> None:
    height, width = size
    with torch.no_grad():
        latents = PaperEncoder(architecture)(torch.zeros(2, 3, height, width))
        assert latents.shape == (2, architecture.dimensions, height // CELL, width // CELL)
        assert PaperDecoder(architecture)(latents).shape == (2, 3, height, width)


@pytest.mark.parametrize("layers", [0, 1, 2, 5])
def test_the_stack_has_as_many_layers_as_asked(layers: int) -> None:
    stack = residual_stack(TINY.model_copy(update={"residual_layers": layers}))
    assert sum(isinstance(layer, ResidualLayer) for layer in stack) == layers
    assert isinstance(stack[-1], nn.ReLU)


def test_a_residual_layer_adds_to_its_input() -> None:
    layer = ResidualLayer(8, 4)
    x = torch.randn(2, 8, 5, 5)
    first, second = (module for module in layer.block if isinstance(module, nn.Conv2d))
    expected = x + second(first(x.clamp_min(0)).clamp_min(0))
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        second.weight.zero_()
    # Equal to the input and not to its positive part: the first ReLU must not work in place.
    assert torch.equal(layer(x), x)


@torch.no_grad()
def test_the_inside_of_a_tile_does_not_depend_on_where_it_was_cut() -> None:
    torch.manual_seed(0)
    encoder, decoder = PaperEncoder(TINY), PaperDecoder(TINY)
    image = torch.randn(1, 3, 64, 96)
    latents = encoder(image)
    inside = encoder(image[..., 16:48, 24:88])  # cells 4 .. 12 and 6 .. 22
    torch.testing.assert_close(inside[..., 3:-3, 3:-3], latents[..., 7:9, 9:19], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(inside[..., 0, :], latents[..., 4, 6:22], atol=1e-4)  # only the rim sees the padding
    picture = decoder(latents)
    part = decoder(latents[..., 4:14, 6:22])
    torch.testing.assert_close(part[..., 16:-16, 16:-16], picture[..., 32:40, 40:72], rtol=1e-4, atol=1e-5)


def test_latents_are_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    encoder, image = PaperEncoder(TINY), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        exact = encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            latents = encoder(image)
            assert encoder.features(image).dtype == torch.bfloat16  # the work is done in bf16
    assert latents.dtype == torch.float32
    # Not rounded to bf16 either: they have digits that bf16 has not.
    assert not torch.equal(latents, latents.bfloat16().float())
    torch.testing.assert_close(latents, exact, rtol=0.05, atol=0.02)


def test_the_first_convolution_is_of_whitened_images() -> None:
    torch.manual_seed(0)
    encoder = PaperEncoder(TINY)
    encoder.whitening.matrix.copy_(torch.randn(3, 3))
    images = torch.rand(2, 3, 16, 16)
    expected = encoder.to_latent(encoder.features(encoder.whitening(images)))
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-6)
