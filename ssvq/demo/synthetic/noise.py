"""Random fields and rough textures, the raw material of the synthetic photographs.

Everything is float32 and built by enlarging small random grids: a full-size Gaussian filter of a
useful width would cost more than the whole rest of a picture.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage


def _double(field: np.ndarray) -> np.ndarray:
    """Twice the rows and columns; applied repeatedly it tends to a smooth (quadratic B-spline) surface."""
    for axis in (0, 1):
        near = np.moveaxis(field, axis, 0)
        shape = list(field.shape)
        shape[axis] *= 2
        doubled = np.empty(shape, np.float32)
        out = np.moveaxis(doubled, axis, 0)
        quarter = near * np.float32(0.25)
        three = near - quarter
        out[0], out[-1] = near[0], near[-1]
        np.add(three[1:], quarter[:-1], out=out[2::2])
        np.add(three[:-1], quarter[1:], out=out[1:-1:2])
        field = doubled
    return field


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, *, coarse: int, fine: int = 1, roughness: float = 0.9
) -> np.ndarray:
    """Multi-scale noise, float32 (height, width), about zero mean and unit variance.

    `coarse` and `fine` are the largest and smallest grain in pixels (powers of two); a grain of s pixels
    has an amplitude in proportion to s ** roughness, so a small roughness looks gritty, a large one cloudy.
    """
    cell, variance = coarse, 0.0
    field = np.zeros((math.ceil(height / cell) + 2, math.ceil(width / cell) + 2), np.float32)
    while True:
        if cell >= fine:
            amplitude = (cell / coarse) ** roughness
            grain = rng.random(field.shape, dtype=np.float32)
            grain -= np.float32(0.5)
            grain *= np.float32(amplitude * math.sqrt(12.0))
            field += grain
            # Enlarging averages neighbouring cells, which leaves about two fifths of the grain's variance.
            variance += amplitude**2 * (1.0 if cell == 1 else 0.42)
        if cell == 1:
            break
        cell //= 2
        rows, columns = math.ceil(height / cell) + 2, math.ceil(width / cell) + 2
        field = _double(field)[1 : rows + 1, 1 : columns + 1]
    field = field[:height, :width]
    field *= np.float32(1.0 / math.sqrt(variance))
    return field


def enlarge(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement of a small (rows, columns) grid to float32 (height, width), corners on corners."""
    grid = np.asarray(grid, np.float32)
    for axis, size in ((1, width), (0, height)):
        position = np.linspace(0.0, grid.shape[axis] - 1.0, size, dtype=np.float32)
        low = np.minimum(position.astype(np.intp), max(grid.shape[axis] - 2, 0))
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        weight = (position - low)[:, None] if axis == 0 else (position - low)[None, :]
        first = np.take(grid, low, axis=axis)
        second = np.take(grid, high, axis=axis)
        second -= first
        second *= weight
        second += first
        grid = second
    return grid


def ramp(field: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high` and linear between (`high` may be the smaller one), float32."""
    scaled = field - np.float32(low)
    scaled *= np.float32(1.0 / (high - low))
    return np.clip(scaled, 0.0, 1.0, out=scaled)


def run_down(sources: np.ndarray, persistence: np.ndarray, meander: np.ndarray) -> np.ndarray:
    """Streaks that water draws below `sources`, all float32 (rows, columns) of one small grid.

    `persistence` (columns) is the share kept from one row to the next; `meander` (rows) sideways steps.
    """
    streaks = np.empty_like(sources)
    flow = np.zeros(sources.shape[1], np.float32)
    for row, source in enumerate(sources):
        flow = np.maximum(flow * persistence, source)
        step = meander[row]
        if step > 0:
            flow[1:] += np.float32(0.1) * step * (flow[:-1] - flow[1:])
        else:
            flow[:-1] -= np.float32(0.1) * step * (flow[1:] - flow[:-1])
        streaks[row] = flow
    return ndimage.uniform_filter(streaks, 3)


def grow_patches(
    rng: np.random.Generator,
    refuge: np.ndarray,
    allowed: np.ndarray,
    grain: np.ndarray,
    share: float,
    *,
    step: int,
    centres: int | None = None,
) -> np.ndarray:
    """Depth of growth, float32 like `grain`: positive inside patches that cover about `share` of `allowed`.

    `refuge` (rows, columns), 0 to 1, says on a grid of every `step`-th pixel where growth likes to begin;
    `allowed` (bool) and `grain` (unit noise, which frays the patches) are full size. There are
    one or two large patches, or several small ones, unless `centres` says how many.
    """
    rows, columns = refuge.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    centres = centres or int(rng.integers(1, 3) if share > 0.3 else rng.integers(2, 7))
    radius = math.sqrt((share + 0.01) * rows * columns / (math.pi * centres))
    likely = (refuge.ravel().astype(float) ** 2 + 0.02) * allowed[::step, ::step].ravel()
    starts = rng.choice(refuge.size, centres, p=likely / likely.sum()) if likely.any() else np.zeros(centres, int)
    nearness = np.full(refuge.shape, -9, np.float32)
    for start in starts:
        turn, stretch = rng.uniform(0, math.pi), rng.uniform(1, 2)
        dx, dy = x - start % columns, y - start // columns
        first, second = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
        distance = np.hypot(first / stretch, second * stretch) / np.float32(radius * rng.uniform(0.6, 1.4))
        np.maximum(nearness, 1 - distance, out=nearness)
    # Far from every start nothing grows, however welcoming the seam: patches stay few and connected.
    nearness = np.maximum(nearness, -2.5) + np.float32(rng.uniform(0.2, 0.8)) * refuge
    fray = np.float32(rng.uniform(0.25, 0.45))
    sample = (nearness + fray * grain[::step, ::step])[allowed[::step, ::step]]
    depth = enlarge(nearness, *grain.shape)
    depth += fray * grain
    depth -= np.float32(np.quantile(sample, 1 - share)) if sample.size else np.float32(1e3)
    return depth


def gravel(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Heaped stones: display values (3, height, width) and relief (height, width)."""
    relief = np.zeros((height, width), np.float32)
    tone = np.full((height, width), 60, np.float32)
    for _ in range(height * width // 150):
        radius, squash, turn = rng.uniform(5, 15), rng.uniform(0.55, 1), rng.uniform(0, 3.2)
        reach = int(radius) + 1
        y, x = int(rng.integers(-reach, height + reach)), int(rng.integers(-reach, width + reach))
        top, left, bottom, right = (
            max(y - reach, 0),
            max(x - reach, 0),
            min(y + reach, height),
            min(x + reach, width),
        )
        if top >= bottom or left >= right:
            continue
        rows = np.arange(top - y, bottom - y, dtype=np.float32)[:, None]
        columns = np.arange(left - x, right - x, dtype=np.float32)[None, :]
        first = columns * math.cos(turn) + rows * math.sin(turn)
        second = (rows * math.cos(turn) - columns * math.sin(turn)) / squash
        dome = 1 - (first * first + second * second) / (radius * radius)
        lifted = dome * (0.5 * radius) + rng.uniform(0, 8)
        window = np.s_[top:bottom, left:right]
        higher = (dome > 0) & (lifted > relief[window])
        relief[window][higher] = lifted[higher]
        tone[window][higher] = rng.uniform(95, 185)
    warm = rng.uniform(0.0, 0.12)
    return tone * np.array([1 + warm, 1, 1 - warm], np.float32)[:, None, None], relief


def concrete(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cast concrete with pores: display values (3, height, width) and relief (height, width)."""
    grain = fractal_noise(rng, height, width, coarse=64, roughness=0.45)
    pores = ramp(fractal_noise(rng, height, width, coarse=8, fine=4, roughness=0.5), 1.7, 2.2)
    tone = (rng.uniform(125, 175) + 9 * grain) * (1 - 0.5 * pores)
    warm = rng.uniform(0.0, 0.1)
    return tone * np.array([1 + warm, 1, 1 - warm], np.float32)[:, None, None], 0.6 * grain - 2 * pores


def grating(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Galvanised bar grating above a dark void: display values (3, height, width), relief (height, width)."""
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    pitch, cross = rng.uniform(26, 44), rng.uniform(90, 150)
    bars = np.maximum(ramp(np.abs(x % pitch - pitch / 2), 5, 4), ramp(np.abs(y % cross - cross / 2), 5, 4))
    teeth = 12 * np.sin(y * rng.uniform(0.35, 0.6))
    below = 34 + 10 * fractal_noise(rng, height, width, coarse=32, fine=2, roughness=0.7)
    tone = bars * (rng.uniform(135, 180) + teeth) + (1 - bars) * below
    return tone * np.array([1, 1, 1.02], np.float32)[:, None, None], 5 * bars
