"""Kernels of `ssvq.model.fused`, in Triton, which comes with PyTorch for CUDA.

Activations are bf16 in channels-last order: a kernel sees a matrix with a row of channels for each cell. Sums are fp32.
"""

# Triton has no types, and compiles a kernel from its source: its parameters that are sizes are its `constexpr`.
# mypy: ignore-errors

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS, CELLS = 128, 64  # of a program of the first convolution, and of those of residual layers


@triton.jit
def _first_convolution(
    pixels, high, low, out, height, width, CENTRE: tl.constexpr, OUT: tl.constexpr, COLUMNS: tl.constexpr
):
    out_height, out_width = height // 2, width // 2
    row, image = tl.program_id(0) % out_height, tl.program_id(0) // out_height
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    value = tl.arange(0, 64)  # of a window: row, column, and red, green, blue or 1
    y = 2 * row - 1 + value // 16
    x = 2 * column[:, None] - 1 + ((value // 4) % 4)[None, :]
    inside = ((y >= 0) & (y < height))[None, :] & (x >= 0) & (x < width)
    at = pixels + image.to(tl.int64) * height * width * 3 + (y[None, :] * width + x) * 3 + (value % 4)[None, :]
    window = tl.load(at, mask=inside & (value % 4 < 3)[None, :], other=CENTRE + 1).to(tl.float32) - CENTRE
    window = tl.where(inside, window, 0).to(tl.bfloat16)
    channel = tl.arange(0, OUT)
    weight = value[:, None] * OUT + channel[None, :]
    result = tl.dot(window, tl.load(high + weight))
    result = tl.maximum(tl.dot(window, tl.load(low + weight), result), 0).to(tl.bfloat16)
    place = (tl.program_id(0).to(tl.int64) * out_width + column)[:, None] * OUT + channel[None, :]
    tl.store(out + place, result, mask=(column < out_width)[:, None])


@triton.jit
def _relu_of_sum(x, bias, out, cells, WIDTH: tl.constexpr, CELLS: tl.constexpr):
    cell = tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS)
    channel = tl.arange(0, WIDTH)
    at, inside = cell[:, None] * WIDTH + channel[None, :], (cell < cells)[:, None]
    total = tl.load(x + at, mask=inside, other=0).to(tl.float32) + tl.load(bias + channel)[None, :]
    tl.store(out + at, tl.maximum(total, 0).to(tl.bfloat16), mask=inside)


@triton.jit
def _residual(x, bias, inner, product, cell, cells, WIDTH: tl.constexpr, INNER: tl.constexpr):
    """x + bias + relu(inner) product, float32."""
    channel, narrow, inside = tl.arange(0, WIDTH), tl.arange(0, INNER), (cell < cells)[:, None]
    active = tl.load(inner + cell[:, None] * INNER + narrow[None, :], mask=inside, other=0).to(tl.float32)
    total = tl.load(x + cell[:, None] * WIDTH + channel[None, :], mask=inside, other=0).to(tl.float32)
    total += tl.load(bias + channel)[None, :]
    weight = tl.load(product + narrow[:, None] * WIDTH + channel[None, :])
    return tl.dot(tl.maximum(active, 0).to(tl.bfloat16), weight, total)


@triton.jit
def _add_residual(
    x, bias, inner, product, out, active, cells, WIDTH: tl.constexpr, INNER: tl.constexpr, CELLS: tl.constexpr
):
    cell = tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS)
    total = _residual(x, bias, inner, product, cell, cells, WIDTH, INNER)
    at, inside = cell[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :], (cell < cells)[:, None]
    tl.store(out + at, total.to(tl.bfloat16), mask=inside)
    tl.store(active + at, tl.maximum(total, 0).to(tl.bfloat16), mask=inside)


@triton.jit
def _product(left, high, low, total):
    """left (high + low) + total, of float32 and two bf16 matrices, to about 16 bits."""
    first = left.to(tl.bfloat16)
    second = (left - first.to(tl.float32)).to(tl.bfloat16)
    return tl.dot(second, high, tl.dot(first, low, tl.dot(first, high, total)))


@triton.jit
def _distances(
    x,
    bias,
    inner,
    product,
    latent_high,
    latent_low,
    latent_bias,
    codes_high,
    codes_low,
    norms,
    out,
    cells,
    codes,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    DIMENSIONS: tl.constexpr,
    CELLS: tl.constexpr,
    CODES: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS)
    features = tl.maximum(_residual(x, bias, inner, product, cell, cells, WIDTH, INNER), 0)
    dimension = tl.arange(0, DIMENSIONS)
    weight = tl.arange(0, WIDTH)[:, None] * DIMENSIONS + dimension[None, :]
    latents = tl.zeros((CELLS, DIMENSIONS), tl.float32) + tl.load(latent_bias + dimension)[None, :]
    latents = _product(features, tl.load(latent_high + weight), tl.load(latent_low + weight), latents)
    nearest = tl.full((CELLS,), float("inf"), tl.float32)
    for start in range(0, codes, CODES):
        code = start + tl.arange(0, CODES)
        at = dimension[:, None] * codes + code[None, :]
        distance = tl.zeros((CELLS, CODES), tl.float32) + tl.load(norms + code)[None, :]
        distance = _product(latents, tl.load(codes_high + at), tl.load(codes_low + at), distance)
        nearest = tl.minimum(nearest, tl.min(distance, 1))
    tl.store(out + cell, tl.maximum(nearest + tl.sum(latents * latents, 1), 0), mask=cell < cells)


def first_convolution(pixels: Tensor, high: Tensor, low: Tensor, centre: int) -> Tensor:
    """ReLU of a convolution of 4x4 with stride 2 and padding 1, of tiles uint8 (n, h, w, 3), by weights (4, 4, 4, out)
    that are the sum of two bf16 tensors (see `first_layer`): bf16 (n, out, h / 2, w / 2).
    """
    n, height, width, _ = pixels.shape
    channels = high.shape[-1]
    out = torch.empty((n, height // 2, width // 2, channels), dtype=torch.bfloat16, device=pixels.device)
    grid = (n * (height // 2), triton.cdiv(width // 2, PIXELS))
    _first_convolution[grid](
        pixels.contiguous(), high, low, out, height, width, CENTRE=centre, OUT=channels, COLUMNS=PIXELS
    )
    return out.permute(0, 3, 1, 2)


def relu_of_sum(x: Tensor, bias: Tensor) -> Tensor:
    """ReLU of x, bf16 (n, channels, h, w), and a bias, float32 (channels,)."""
    x = _channels_last(x)
    out = torch.empty_like(x)
    cells = x.numel() // x.shape[1]
    _relu_of_sum[(triton.cdiv(cells, CELLS),)](x, bias, out, cells, WIDTH=x.shape[1], CELLS=CELLS)
    return out


def add_residual(x: Tensor, bias: Tensor, inner: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """x + bias + relu(inner) product, of bf16 (n, channels, h, w), (n, narrow, h, w) and (narrow, channels), and its
    ReLU.
    """
    x, inner = _channels_last(x), _channels_last(inner)
    out, active = torch.empty_like(x), torch.empty_like(x)
    cells, (narrow, channels) = x.numel() // x.shape[1], product.shape
    _add_residual[(triton.cdiv(cells, CELLS),)](
        x, bias, inner, product, out, active, cells, WIDTH=channels, INNER=narrow, CELLS=CELLS
    )
    return out, active


def distances(
    residual: tuple[Tensor, Tensor, Tensor, Tensor],
    to_latent: tuple[Tensor, Tensor, Tensor],
    codes: tuple[Tensor, Tensor, Tensor],
    *,
    cells_at_once: int,
    codes_at_once: int,
) -> Tensor:
    """Squared distances from the nearest code, float32 (n, h, w), of what the last residual layer gives: its parts as
    `add_residual` takes them; the product (channels, D), in two parts, and bias that make latents; and codes times -2
    (D, codes), in two parts, with their squared norms. `codes_at_once` divides the number of codes.
    """
    x, bias, inner, product = residual
    x, inner = _channels_last(x), _channels_last(inner)
    n, channels, height, width = x.shape
    out = torch.empty((n, height, width), dtype=torch.float32, device=x.device)
    _distances[(triton.cdiv(out.numel(), cells_at_once),)](
        x,
        bias,
        inner,
        product,
        *to_latent,
        *codes,
        out,
        out.numel(),
        len(codes[-1]),
        WIDTH=channels,
        INNER=len(product),
        DIMENSIONS=len(to_latent[-1]),
        CELLS=cells_at_once,
        CODES=codes_at_once,
    )
    return out


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
