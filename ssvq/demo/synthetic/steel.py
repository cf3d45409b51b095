"""Painted steel: plates, seams, bolts, dirt and the rust that grows on them, before light and camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssvq.demo.synthetic.noise import concrete, enlarge, fractal_noise, grating, gravel, ramp, run_down

GRID = 8  # pixels between the points of the small grids on which growth and dirt are worked out

# 3 x 5 figures, a row of three bits after the other, for stencilled numbers.
_FIGURES = (0x7B6F, 0x2C97, 0x73E7, 0x73CF, 0x5BC9, 0x79CF, 0x79EF, 0x7249, 0x7BEF, 0x7BCF)


@dataclass
class Surface:
    """A stretch of structure. Fields are float32 (height, width) unless said otherwise."""

    colour: np.ndarray  # (3, height, width), display values 0 to 255 under even light
    relief: np.ndarray  # height of the surface in pixels
    across: np.ndarray  # position on the structure of each pixel
    along: np.ndarray  # the same, downwards
    steel: np.ndarray  # bool: not ground, grating or sky
    drips: np.ndarray  # small grid: where water collects before it runs down
    refuge: np.ndarray  # small grid, 0 to 1: nearness to seams, bolts and edges, where rust begins
    to_picture: np.ndarray  # 3 x 3 homography from the structure to pixels
    rust: np.ndarray  # bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.relief.shape[0], self.relief.shape[1]


def bare_surface(paint: Sequence[float], to_structure: np.ndarray, height: int, width: int) -> Surface:
    """An even coat of `paint` (3 display values); `to_structure` is the 3 x 3 homography from pixels."""
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    rows = [x * np.float32(row[0]) + (y * np.float32(row[1]) + np.float32(row[2])) for row in to_structure]
    scale = np.reciprocal(rows[2])
    small = (math.ceil(height / GRID), math.ceil(width / GRID))
    colour = np.empty((3, height, width), np.float32)
    colour[:] = np.asarray(paint, np.float32)[:, None, None]
    return Surface(
        colour=colour, relief=np.zeros((height, width), np.float32),
        across=rows[0] * scale, along=rows[1] * scale, steel=np.ones((height, width), bool),
        drips=np.zeros(small, np.float32), refuge=np.zeros(small, np.float32),
        to_picture=np.linalg.inv(to_structure), rust=np.zeros((height, width), bool),
    )  # fmt: skip


def add_seam(surface: Surface, rng: np.random.Generator, *, level: bool, position: float) -> None:
    """A weld bead, or an open joint, along a line of the structure (`level`: left to right)."""
    place, run = (surface.along, surface.across) if level else (surface.across, surface.along)
    distance = np.abs(place - np.float32(position))
    half = rng.uniform(5, 11)
    near = np.nonzero(distance < 3 * half)
    offset, length = distance[near], run[near]
    if rng.random() < 0.7:
        wander = np.sin(length / 53 + rng.uniform(0, 6)) + np.sin(length / 17)
        ripple = np.sin(length * rng.uniform(0.5, 0.9) + 0.06 * offset**2) + rng.normal(0, 0.4, length.shape)
        bead = np.sqrt(np.clip(1 - (offset / (half + wander)) ** 2, 0, 1))
        surface.relief[near] += (bead * (0.5 * half + 0.4 * ripple)).astype(np.float32)
        surface.colour[:, near[0], near[1]] *= (1 - 0.1 * np.exp(-((offset / half - 1) ** 2) * 6)).astype(np.float32)
    else:
        groove = np.exp(-((offset / 2.2) ** 2)).astype(np.float32)
        surface.relief[near] -= 3 * groove
        surface.colour[:, near[0], near[1]] *= 1 - 0.65 * groove
    closeness = distance[::GRID, ::GRID] / np.float32(0.08 * max(surface.shape) + 30)
    np.maximum(surface.refuge, 1 - closeness, out=surface.refuge)
    if level:
        surface.drips[distance[::GRID, ::GRID] < GRID] = 0.35


def add_plate(surface: Surface, box: tuple[float, float, float, float], thickness: float) -> None:
    """A plate `thickness` pixels thick laid on the structure between (left, top, right, bottom)."""
    left, top, right, bottom = box
    inside = np.minimum(surface.across - np.float32(left), np.float32(right) - surface.across)
    np.minimum(inside, surface.along - np.float32(top), out=inside)
    np.minimum(inside, np.float32(bottom) - surface.along, out=inside)
    surface.relief += np.float32(thickness) * ramp(inside, -1.5, 1.5)
    edge = np.abs(inside[::GRID, ::GRID])
    np.maximum(surface.refuge, 0.9 - edge / np.float32(50 + 0.04 * max(surface.shape)), out=surface.refuge)
    lower = (np.abs(surface.along[::GRID, ::GRID] - np.float32(bottom)) < GRID) & (edge < GRID)
    surface.drips[lower] = 0.5


def _bolt_profile(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Height, float32 (n, n), of a rivet, a hexagonal head or a nut with its thread end and washer."""
    reach = math.ceil(radius * 1.6)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    distance = np.hypot(x, y)
    kind = rng.integers(3)
    if kind == 0:
        return radius * 0.75 * np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
    turn = rng.uniform(0, math.pi / 3)
    sector = (np.arctan2(y, x) + turn) % (math.pi / 3) - math.pi / 6
    flat = distance * np.cos(sector)
    profile = 0.55 * radius * ramp(flat, 0.92 * radius, 0.72 * radius) + 3 * ramp(distance, 1.5 * radius, 1.4 * radius)
    if kind == 2:
        profile += 0.3 * radius * ramp(distance, 0.5 * radius, 0.38 * radius)
    return profile.astype(np.float32)


def add_bolts(surface: Surface, rng: np.random.Generator, places: np.ndarray, radius: float) -> None:
    """Bolts or rivets of one make at `places` (n, 2), positions across and along the structure."""
    profile = _bolt_profile(rng, radius)
    reach = profile.shape[0] // 2
    height, width = surface.shape
    mapped = np.column_stack([places, np.ones(len(places))]) @ surface.to_picture.T
    for x, y in np.rint(mapped[:, :2] / mapped[:, 2:]).astype(int):
        top, left, bottom, right = y - reach, x - reach, y + reach + 1, x + reach + 1
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            continue
        window = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        part = profile[max(-top, 0) : min(bottom, height) - top, max(-left, 0) : min(right, width) - left]
        surface.relief[window] += part
        surface.colour[(slice(None), *window)] *= np.where(part > 3.5, np.float32(rng.uniform(0.93, 1.06)), 1)
        rows, columns = (np.clip(np.array([y, x]) // GRID, 0, np.array(surface.drips.shape) - 1)).tolist()
        spread = max(int(radius) // GRID, 1)
        around = np.s_[max(rows - spread, 0) : rows + spread + 1, max(columns - spread, 0) : columns + spread + 1]
        surface.drips[around] = rng.uniform(0.3, 1) * (rng.random() < 0.7)
        surface.refuge[around] = 1


def add_ground(surface: Surface, rng: np.random.Generator, *, level: bool, position: float) -> None:
    """Replace all beyond `position` (below it if `level`, else to its right) by what lies behind."""
    place = surface.along if level else surface.across
    rows, columns = np.nonzero(place[::GRID, ::GRID] > position - 2 * GRID)
    if not rows.size:
        return
    top, left = rows.min() * GRID, columns.min() * GRID
    window = np.s_[top : surface.shape[0], left : surface.shape[1]]
    beyond = place[window] > position
    kind = (gravel, concrete, grating)[rng.integers(3)]
    colour, relief = kind(rng, *beyond.shape)
    edge = ramp(place[window], position, position + rng.uniform(25, 70))
    colour *= 0.45 + 0.55 * edge  # the steel keeps the light from the nearest ground
    np.copyto(surface.colour[(slice(None), *window)], colour, where=beyond)
    np.copyto(surface.relief[window], relief - 12, where=beyond)
    surface.steel[window] &= ~beyond
    closeness = np.abs(place[::GRID, ::GRID] - np.float32(position)) / np.float32(40 + 0.06 * max(surface.shape))
    np.maximum(surface.refuge, 1 - closeness, out=surface.refuge)


def add_marking(surface: Surface, rng: np.random.Generator, wear: np.ndarray) -> None:
    """A stencilled number or a sprayed ring, worn where `wear` (height, width) is high."""
    height, width = surface.shape
    size = min(height, width) * rng.uniform(0.02, 0.045)
    if rng.random() < 0.5:
        rows = [[int(bit) for bit in f"{_FIGURES[i]:015b}"] for i in rng.integers(0, 10, rng.integers(2, 5))]
        word = np.hstack([np.pad(np.reshape(row, (5, 3)), ((0, 0), (0, 1))) for row in rows])
        stencil = np.kron(word, np.ones((max(int(size), 2),) * 2)).astype(np.float32)
    else:
        reach = int(4 * size) + 2
        y, x = np.mgrid[-reach:reach, -reach:reach].astype(np.float32)
        distance = np.hypot(x * rng.uniform(0.8, 1), y) + 0.1 * size * np.sin(3 * np.arctan2(y, x))
        stencil = ramp(np.abs(distance - 2.4 * size), 0.35 * size, 0.2 * size)
    top, left = (int(rng.integers(0, max(free, 1))) for free in (height - stencil.shape[0], width - stencil.shape[1]))
    window = np.s_[top : top + stencil.shape[0], left : left + stencil.shape[1]]
    cover = stencil[: height - top, : width - left] * ramp(wear[window], 1.2, 0.4) * surface.steel[window] * 0.85
    inks = ((225, 222, 210), (32, 32, 34), (214, 178, 40), (176, 44, 38))
    ink = np.array(inks[rng.integers(len(inks))], np.float32)[:, None, None]
    surface.colour[(slice(None), *window)] += cover * (ink - surface.colour[(slice(None), *window)])


def add_scratches(surface: Surface, rng: np.random.Generator, number: int) -> None:
    """Thin bright or dark lines, each slightly bent."""
    height, width = surface.shape
    for _ in range(number):
        length = rng.uniform(0.03, 0.25) * width
        way = np.arange(0, length, 0.7)
        heading = rng.uniform(0, math.pi) + rng.uniform(-0.5, 0.5) * way / length
        x = (rng.uniform(0, width) + np.cumsum(np.cos(heading)) * 0.7).astype(int)
        y = (rng.uniform(0, height) + np.cumsum(np.sin(heading)) * 0.7).astype(int)
        valid = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height) & (rng.random(way.size) < 0.9)
        x, y = x[valid], y[valid]
        shift = rng.choice([-22, 18, 30]) * np.sin(np.linspace(0.2, 2.9, x.size)).astype(np.float32)
        for column in (x, x + 1):
            surface.colour[:, y, column] += shift * surface.steel[y, column]


def weather(surface: Surface, rng: np.random.Generator, broad: np.ndarray) -> None:
    """Chalking, brownish water stains, dirt and speckle on the coat; none of it is rust.

    `broad` (height, width) is large-scale noise of unit variance.
    """
    height, width = surface.shape
    chalk = (rng.uniform(0, 0.16) * ramp(broad, -1.0, 2.0))[None]
    surface.colour += chalk * (np.float32(rng.uniform(150, 200)) - surface.colour)
    rows, columns = surface.drips.shape
    sources: np.ndarray = surface.drips * rng.random((rows, columns), dtype=np.float32) ** 2
    wet = rng.random(6) * columns
    sources[0] = np.where(np.abs(np.arange(columns)[:, None] - wet).min(1) < columns / 40, rng.random(columns), 0)
    fade = 1 - np.asarray(rng.uniform(0.2, 1.0, columns), np.float32) * np.float32(rng.uniform(4, 14) / rows)
    streaks = run_down(np.asarray(sources, np.float32), fade, np.sin(np.arange(rows) / 9.0).astype(np.float32))
    pools = 0.35 * ramp(fractal_noise(rng, rows, columns, coarse=32, fine=4, roughness=1.0), 0.7, 2.2)
    stain = enlarge(np.minimum(streaks * rng.uniform(0.4, 1.1) + pools * rng.uniform(0, 1.2), 0.85), height, width)
    stain *= surface.steel
    tint = np.array(((0.76, 0.52, 0.29), (0.62, 0.46, 0.32), (0.50, 0.46, 0.41))[rng.integers(3)], np.float32)
    for channel, share in zip(surface.colour, tint, strict=True):
        channel *= 1 - stain * (1 - share)


def roughen(surface: Surface, rng: np.random.Generator, grit: np.ndarray) -> None:
    """The coat's own texture, from spray-smooth to anti-slip, and specks of dirt; `grit` is fine noise."""
    harsh = rng.random() < 0.2
    depth = rng.uniform(0.25, 0.6) if harsh else rng.uniform(0.02, 0.12)
    surface.relief += np.float32(depth) * grit
    if rng.random() < 0.5:
        specks = ramp(np.roll(grit, (211, 97), (0, 1)), rng.uniform(1.6, 2.6), 3.0)
        surface.colour *= 1 - np.float32(rng.uniform(0.2, 0.6)) * specks
    np.clip(surface.colour, 4, 250, out=surface.colour)
