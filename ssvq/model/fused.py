"""The paper's encoder and the distances from its codebook in eight GPU kernels.

PyTorch writes and reads every activation again for a bias, a ReLU, a cast or a residual; here each is part of the
convolution or product next to it. Everything after the last 3x3 convolution works on one cell at a time, up to the
distance from the nearest code: neither latents nor distances to all codes are written.

Activations are bf16. The first layer, the latents and the distances have fp32's accuracy, as in `PaperEncoder`: pixels
minus 128 are exact in bf16, and other numbers are the sum of two bf16 numbers, of which three products are added.
"""

import importlib.util
import logging
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.errors import one_line
from ssvq.model.codebook import Codebook, in_bf16
from ssvq.model.description import Preprocessing
from ssvq.model.encoders.base import Encoder
from ssvq.model.encoders.paper import PaperEncoder, ResidualLayer

CELLS, CODES_AT_ONCE = 128, 64  # of a program; on an H200 the fastest of those tried
SMALLEST, LARGEST = 16, 256  # sides of the products of a kernel, which are powers of two
CENTRE = 128  # pixels minus this are integers of at most 8 bits

log = logging.getLogger(__name__)


class FusedDistances:
    """Squared distances of the cells of tiles from their nearest codes."""

    def __init__(self, encoder: PaperEncoder, codebook: Codebook, preprocessing: Preprocessing) -> None:
        layers = encoder.features
        second, third = cast(nn.Conv2d, layers[2]), cast(nn.Conv2d, layers[4])
        self._first = _halves(first_layer(encoder, preprocessing))
        self._second, self._second_bias = _of_conv(second), _bias(second).bfloat16()
        self._third = _of_conv(third)
        residual = [layer.block for layer in _residual_layers(encoder)]
        self._residual = [(_of_conv(block[1]), _of_cell(block[3]).bfloat16()) for block in residual]
        # Still to add to the output of the last convolution: its bias; from the second residual layer on, nothing.
        self._biases = [_bias(third), *[torch.zeros_like(_bias(third))] * (len(residual) - 1)]
        self._to_latent = _halves(_of_cell(encoder.to_latent))
        self._latent_bias = _bias(encoder.to_latent)
        codes = codebook.codes.detach()
        unfilled = -len(codes) % CODES_AT_ONCE
        self._codes = _halves(F.pad(-2 * codes, (0, 0, 0, unfilled)).T.contiguous())
        self._norms = F.pad(codes.square().sum(1), (0, unfilled), value=float("inf"))  # of a filler: never the nearest

    def __call__(self, pixels: Tensor) -> Tensor:
        """Of tiles uint8 (n, t, t, 3): float32 (n, t / 4, t / 4)."""
        from ssvq.model import triton_kernels as kernels

        x = kernels.first_convolution(pixels, *self._first, CENTRE)
        x = torch.cudnn_convolution_relu(x, self._second, self._second_bias, (2, 2), (1, 1), (1, 1), 1)
        x = F.conv2d(x, self._third, padding=1)
        active = kernels.relu_of_sum(x, self._biases[0])
        for (convolution, product), bias in zip(self._residual[:-1], self._biases, strict=False):
            inner = F.conv2d(active, convolution, padding=1)
            x, active = kernels.add_residual(x, bias, inner, product)
        convolution, product = self._residual[-1]
        inner = F.conv2d(active, convolution, padding=1)
        return kernels.distances(
            (x, self._biases[-1], inner, product),
            (*self._to_latent, self._latent_bias),
            (*self._codes, self._norms),
            cells_at_once=CELLS,
            codes_at_once=CODES_AT_ONCE,
        )


def fused_distances(
    encoder: Encoder, codebook: Codebook, preprocessing: Preprocessing, precision: str
) -> FusedDistances | None:
    """The kernels, if model and device suit them and they can be built; else None."""
    device = codebook.codes.device
    if device.type != "cuda" or precision != "bf16" or not suits(encoder, codebook):
        return None
    if importlib.util.find_spec("triton") is None or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    assert isinstance(encoder, PaperEncoder)
    try:
        fused = FusedDistances(encoder, codebook, preprocessing)
        with torch.inference_mode():
            fused(torch.zeros((1, 64, 64, 3), dtype=torch.uint8, device=device))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Triton asks for a C compiler, for one, and has no class for its errors
        log.warning("fused kernels are not used (%s); scoring takes three times as long", one_line(str(error)[:200]))
        return None
    return fused


def suits(encoder: Encoder, codebook: Codebook) -> bool:
    """Whether the kernels can take a model's sizes; they take the paper's."""
    if not isinstance(encoder, PaperEncoder) or encoder.to_latent.bias is None:
        return False
    residual = _residual_layers(encoder)
    if not residual:
        return False
    first, inner = cast(nn.Conv2d, encoder.features[0]), cast(nn.Conv2d, residual[0].block[1])
    sides = [first.out_channels, 2 * first.out_channels, inner.out_channels, codebook.codes.shape[1]]
    return all(SMALLEST <= side <= LARGEST and side & (side - 1) == 0 for side in sides)


@torch.no_grad()
def first_layer(encoder: PaperEncoder, preprocessing: Preprocessing) -> Tensor:
    """The first convolution with normalisation, whitening and bias in its weights: float32 (4, 4, 4, channels), by row,
    column and value of its window.

    Values are red, green and blue minus CENTRE, and 1; around a tile all are 0, like the padding of normalised pixels.
    """
    layer = cast(nn.Conv2d, encoder.features[0])
    weight = torch.einsum("ocyx,ci->yxio", layer.weight.double(), encoder.whitening.matrix.double())
    mean = torch.tensor(preprocessing.mean, device=weight.device, dtype=torch.float64) * 255
    deviation = torch.tensor(preprocessing.std, device=weight.device, dtype=torch.float64) * 255
    of_one = torch.einsum("yxio,i->yxo", weight, (CENTRE - mean) / deviation)
    of_one[1, 1] += _bias(layer)  # this pixel of the window is never outside
    return torch.cat([weight / deviation[:, None], of_one[:, :, None]], dim=2).float()


def _residual_layers(encoder: PaperEncoder) -> list[ResidualLayer]:
    return [layer for layer in cast(nn.Sequential, encoder.features[5]) if isinstance(layer, ResidualLayer)]


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    high, low = in_bf16(values, 2)
    return high, low


def _of_conv(layer: nn.Module) -> Tensor:
    weight = cast(nn.Conv2d, layer).weight.detach().bfloat16()
    return weight.contiguous(memory_format=torch.channels_last)


def _of_cell(layer: nn.Module) -> Tensor:
    """Weights of a 1x1 convolution as a matrix (in, out)."""
    return cast(nn.Conv2d, layer).weight.detach()[:, :, 0, 0].T.contiguous()


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach().float()
