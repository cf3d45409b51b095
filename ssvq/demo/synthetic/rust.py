"""The rust that grows on painted steel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssvq.demo.synthetic.noise import enlarge, fractal_noise, grow_patches, ramp, run_down
from ssvq.demo.synthetic.steel import GRID, Surface

# Dark scale through brown and orange to the pale dust of dry rust; display values 0 to 255.
_RUST_COLOURS = np.array(
    [[30, 24, 22], [52, 36, 29], [78, 49, 36], [106, 62, 42], [136, 78, 46], [164, 98, 56], [186, 130, 86]],
    np.float32,
)


def _run_off(surface: Surface, rng: np.random.Generator) -> None:
    """Stains that rain draws from the rust over the paint below it; smooth, so not rust themselves."""
    rows, columns = surface.drips.shape
    sources: np.ndarray = surface.rust[::GRID, ::GRID] * rng.random((rows, columns), dtype=np.float32) ** 3
    fade = 1 - np.asarray(rng.uniform(0.3, 1.5, columns), np.float32) * np.float32(rng.uniform(8, 20) / rows)
    trail = run_down(np.asarray(sources, np.float32), fade, np.zeros(rows, np.float32))
    stain = enlarge(np.float32(rng.uniform(0.1, 0.6)) * trail, *surface.shape) * surface.steel
    for channel, share in zip(surface.colour, (0.82, 0.55, 0.36), strict=True):
        channel *= 1 - stain * np.float32(1 - share)


def corrode(
    surface: Surface,
    rng: np.random.Generator,
    broad: np.ndarray,
    grit: np.ndarray,
    growth: float | np.ndarray,
    kind: np.random.Generator,
    spread: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> None:
    """Let rust eat the steel: flaked rims, blisters, scale and pits, run-off stains.

    `growth` is the share to eat, or a small grid, float32 (rows, columns), of depths worked out for a larger
    structure. `broad` and `grit` are full-size noise of unit variance, the first of large, the other of
    small grain. `kind` draws the colour and roughness of the rust. `spread` changes the depth, full size and positive
    where rust is, and is also given where there is steel.
    """
    is_sound = isinstance(growth, float) and growth <= 0
    if (is_sound and spread is None) or not surface.steel.any():
        return
    other = fractal_noise(rng, *surface.shape, coarse=64, roughness=0.7)
    if isinstance(growth, float):
        # Small patches need small bays and capes: the broad noise is all but constant within them.
        bay = np.float32(0.45 + 1.2 * max(0.3 - growth, 0))
        depth = grow_patches(rng, surface.refuge, surface.steel, broad + bay * other, min(growth, 1), step=GRID)
    else:
        depth = enlarge(growth, *surface.shape)
        depth += np.float32(0.13) * other
    if spread is not None:
        depth = spread(depth, surface.steel)
    surface.rust = (depth > 0) & surface.steel
    _run_off(surface, rng)
    other = other[::-1, ::-1]
    # Paint: stained near the rust, lifted into blisters, ending in a raised rim.
    paint = surface.steel & ~surface.rust
    halo = ramp(depth, -0.3, 0.05) * paint
    blister = ramp(depth, -0.22, -0.05) * ramp(other, 0.75, 1.5) * paint
    surface.relief += 5 * blister + 1.6 * paint * ramp(depth, -0.2, -0.02)
    halo *= np.float32(rng.uniform(0.1, 0.45))
    for channel, stained in zip(surface.colour, (122.0, 82.0, 56.0), strict=True):
        channel += halo * (np.float32(stained) - channel)
    # Rust: a position on the scale of colours, from fine grit, broad change and depth (old rust is dark).
    tone = grit * np.float32(kind.uniform(0.09, 0.15))
    tone += other * np.float32(kind.uniform(0.04, 0.1))
    tone += broad[::-1] * np.float32(kind.uniform(0.03, 0.1))
    tone -= ramp(depth, 0.0, 1.2) * np.float32(kind.uniform(0.0, 0.25))
    tone += np.float32(kind.uniform(0.44, 0.68))
    palette = _RUST_COLOURS.copy()
    grey = palette.mean(1, keepdims=True)
    palette += kind.choice([0.0, 0.0, 0.1, 0.25, 0.5]) * (grey - palette)
    palette *= kind.uniform(0.9, 1.25)
    scale = np.linspace(0, 1, len(palette))
    fine = np.linspace(0, 1, 256)
    table = np.column_stack([np.interp(fine, scale, stop) for stop in palette.T]).astype(np.float32)
    index = (np.clip(tone, 0, 0.999) * 256).astype(np.uint8)
    for channel, shades in zip(surface.colour, table.T, strict=True):
        np.copyto(channel, shades[index], where=surface.rust)
    scale_relief = np.float32(kind.uniform(0.8, 1.6)) * grit + np.float32(1.6) * other
    scale_relief -= 2.5 * ramp(np.roll(grit, (57, 131), (0, 1)), 1.3, 2.2)  # pits
    surface.relief += np.where(surface.rust, scale_relief, 0)
