"""Light and camera: from a surface of steel to a photograph of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssvq.demo.synthetic.noise import enlarge, fractal_noise, ramp
from ssvq.demo.synthetic.steel import Surface

# Every second coat is near the colour of rust (red-oxide primer, ochre, tan), so that colour alone misleads.
PAINTS: tuple[tuple[int, int, int], ...] = (
    (152, 156, 156), (124, 70, 57), (92, 122, 104), (176, 144, 98), (190, 188, 178), (108, 64, 53),
    (90, 116, 138), (166, 146, 116), (116, 122, 124), (136, 90, 70), (74, 100, 84), (132, 104, 78),
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """Paint, light and camera of one picture."""

    paint: tuple[float, float, float]
    light: tuple[float, float, float]  # towards the lamp: right, down, out of the steel
    tilt: float  # radians the camera is rolled
    keystone: tuple[float, float]  # change of scale across and down the picture
    gradient: tuple[float, float]  # change of brightness across and down
    vignette: float
    exposure: float
    warmth: float
    blur: float
    noise: float
    rust_kind: int  # seed of the colour and roughness of the rust
    overcast: bool = False  # no shadows of things outside the picture


def draw_view(rng: np.random.Generator, paint: Sequence[float] | None = None) -> View:
    """A view by chance, of `paint` if given."""
    chosen = PAINTS[rng.integers(len(PAINTS))] if paint is None else paint
    coat = tuple(float(value) for value in np.asarray(chosen) * rng.uniform(0.85, 1.12) + rng.normal(0, 4, 3))
    azimuth, height = rng.uniform(0.15, math.pi - 0.15), rng.uniform(0.55, 1.1)
    light = (math.cos(azimuth) * math.cos(height), -math.sin(azimuth) * math.cos(height), math.sin(height))
    return View(
        paint=(coat[0], coat[1], coat[2]), light=light, tilt=rng.normal(0, 0.03),
        keystone=(rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)),
        gradient=(rng.uniform(-0.2, 0.2), rng.uniform(-0.22, 0.15)), vignette=rng.uniform(0.05, 0.3),
        exposure=rng.uniform(0.95, 1.22), warmth=rng.normal(0, 0.035),
        blur=rng.uniform(0.03, 0.2), noise=1.0 + 5.0 * rng.random() ** 2.5,
        rust_kind=int(rng.integers(2**31)),
    )  # fmt: skip


def to_structure(view: View, height: int, width: int) -> np.ndarray:
    """Homography, float64 (3, 3), from pixels to the structure, whose origin is the middle of the picture."""
    cosine, sine = math.cos(view.tilt), math.sin(view.tilt)
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    roll = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    stretch = np.array([[1, 0, 0], [0, 1, 0], [view.keystone[0] / width, view.keystone[1] / height, 1]])
    return np.asarray(stretch @ roll @ centre)


def _lambert(relief: np.ndarray, light: Sequence[float]) -> np.ndarray:
    """Brightness, float32 (height, width), of a surface of height `relief` pixels; 1 where it is flat.

    `light` (x, y, z) points from the surface towards the lamp, y downwards as in the picture.
    """
    across = np.zeros_like(relief)
    across[:, 1:-1] = relief[:, 2:] - relief[:, :-2]
    along = np.zeros_like(relief)
    along[1:-1] = relief[2:] - relief[:-2]
    shade = across * np.float32(-0.5 * light[0])
    shade -= along * np.float32(0.5 * light[1])
    shade += np.float32(light[2])
    across *= across
    along *= along
    across += along
    across *= np.float32(0.25)
    across += 1.0
    shade /= np.sqrt(across, out=across)
    shade *= np.float32(1.0 / light[2])
    return np.clip(shade, 0.0, 2.2, out=shade)


def _cast_shadow(relief: np.ndarray, light: Sequence[float], *, reach: int = 7) -> np.ndarray:
    """0 in the open to 1 in full shadow, float32 (height, width), of whatever stands up from `relief`.

    Worked out on every second pixel, which also gives the shadow its soft rim.
    """
    small = np.ascontiguousarray(relief[::2, ::2])
    level = math.hypot(light[0], light[1])
    highest = np.full_like(small, -1e3)
    rows, columns = small.shape
    for step in range(1, reach + 1):
        down = round(-2.0 * step * light[1] / level)
        right = round(-2.0 * step * light[0] / level)
        drop = np.float32(2.0 * math.hypot(down, right) * light[2] / level)
        if abs(down) >= rows or abs(right) >= columns:
            break
        to = (slice(max(down, 0), rows + min(down, 0)), slice(max(right, 0), columns + min(right, 0)))
        of = (slice(max(-down, 0), rows + min(-down, 0)), slice(max(-right, 0), columns + min(-right, 0)))
        np.maximum(highest[to], small[of] - drop, out=highest[to])
    highest -= small
    soft = ramp(highest, 0.5, 3.0)
    return enlarge(soft, *relief.shape)


def _soften(channel: np.ndarray, amount: float) -> None:
    """Blur float32 (height, width) in place with the kernel (a, 1 - 2a, a) both ways, a = `amount`."""
    for view in (channel, channel.T):
        neighbours = view[2:] + view[:-2]
        neighbours *= np.float32(amount)
        view[1:-1] *= np.float32(1.0 - 2.0 * amount)
        view[1:-1] += neighbours


def _illuminate(surface: Surface, view: View, rng: np.random.Generator) -> np.ndarray:
    """Brightness, float32 (height, width): slope, cast shadows, falling light and vignetting."""
    height, width = surface.shape
    shade = _lambert(surface.relief, view.light)
    shade *= 0.6
    shade += 0.4
    shade *= 1 - 0.5 * _cast_shadow(surface.relief, view.light)
    y, x = np.mgrid[-1:1:24j, -1:1:32j].astype(np.float32)
    field = 1 + view.gradient[0] * x + view.gradient[1] * y - view.vignette * (x * x + y * y) / 2
    if not view.overcast and rng.random() < 0.4:  # the soft shadow of a railing or a girder outside the picture
        fine_y, fine_x = np.mgrid[-1:1:96j, -1:1:128j].astype(np.float32)
        turn, place, half = rng.uniform(-0.9, 0.9), rng.uniform(-0.7, 0.7), rng.uniform(0.05, 0.5)
        gap = np.abs(fine_x * math.cos(turn) + fine_y * math.sin(turn) - place) - half
        shade *= enlarge(1 - rng.uniform(0.25, 0.5) * ramp(gap, rng.uniform(0.03, 0.15), 0.0), height, width)
    shade *= enlarge(field * view.exposure, height, width)
    return shade


def expose(surface: Surface, view: View, rng: np.random.Generator) -> np.ndarray:
    """The picture, uint8 (height, width, 3)."""
    height, width = surface.shape
    shade = _illuminate(surface, view, rng)
    grain = fractal_noise(rng, height, width, coarse=2, roughness=0.2)
    picture = np.empty((height, width, 3), np.uint8)
    for index, channel in enumerate(surface.colour):
        channel *= shade
        channel *= np.float32(1 + (1 - index) * view.warmth)
        _soften(channel, view.blur)
        own = rng.random((height, width), dtype=np.float32)
        own -= np.float32(0.5)
        own *= np.float32(1.5 * view.noise)
        channel += own
        channel += grain * np.float32(0.85 * view.noise)
        picture[:, :, index] = np.clip(channel, 0, 255, out=channel)
    return picture
