"""The same steel a year later: rust has grown by a known share; the light differs, and the camera is nearer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy import ndimage

from ssvq.demo.synthetic.camera import View

STEP = 4  # pixels between the points of the grid on which rust spreads
FRAY = 60.0  # pixels from the old rust over which its shape fades out
NEW_SHARE = 0.05  # of a picture that new rust covers
SMALLEST_SHARE = 0.15  # of rust in a picture whose growth is measured: a smaller patch is a few cells of heat
LARGEST_SHARE = 0.75  # above it there is no room to grow

Homography = np.ndarray
"""float64 (3, 3), from pixels of the earlier picture to those of the later one."""


@dataclass(frozen=True)
class Year:
    """The change of a picture's rust in a year: its area becomes `growth` times as large. If `is_new`, one patch
    appears on sound steel.
    """

    growth: float = 1.0
    is_new: bool = False

    def spread(self, depth: np.ndarray, steel: np.ndarray) -> np.ndarray:
        """Depth of growth, float32 (height, width), positive on rust, after this year. `steel`: bool, where rust can
        be.
        """
        if self.growth > 1:
            depth = _grow(depth, steel, self.growth)
        return _add_patch(depth, steel) if self.is_new else depth


def plan_year(corrosion: Sequence[float]) -> dict[int, Year]:
    """Pictures to take again, by their index in a survey, with the change of their rust, from each one's share of
    rust.
    """
    room = sorted((share, index) for index, share in enumerate(corrosion) if SMALLEST_SHARE <= share <= LARGEST_SHARE)
    years = dict(zip((index for _, index in room), (Year(1.5), Year(1.25), Year(1.0)), strict=False))
    sound = [index for index, share in enumerate(corrosion) if share == 0]
    return years | {index: Year(is_new=True) for index in sound[:1]}


def _grow(depth: np.ndarray, steel: np.ndarray, growth: float) -> np.ndarray:
    """Grow rust from its rims to `growth` times its area, with the same fray."""
    rust = (depth > 0) & steel
    small = rust[::STEP, ::STEP]
    away = ndimage.distance_transform_edt(~small).astype(np.float32) * np.float32(STEP / FRAY)
    away = cv2.resize(away, depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    near = depth - away
    wanted = min(int(rust.sum() * growth), int(steel.sum()))
    free = near[steel & ~rust]
    more = wanted - int(rust.sum())
    if not 0 < more <= free.size:
        return depth
    least = np.partition(free, free.size - more)[free.size - more]
    return np.where(rust, depth - least, near - least)


def _add_patch(depth: np.ndarray, steel: np.ndarray) -> np.ndarray:
    """Add one round, frayed patch where the steel is soundest."""
    height, width = depth.shape
    sound = np.pad((steel & (depth <= 0))[::STEP, ::STEP], 1)
    room = ndimage.distance_transform_edt(sound)[1:-1, 1:-1]
    row, column = np.unravel_index(int(room.argmax()), room.shape)
    radius = math.sqrt(NEW_SHARE * height * width / math.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(x - STEP * column, y - STEP * row) / np.float32(radius)
    turn = np.arctan2(y - STEP * row, x - STEP * column)
    waves = sum(np.float32(0.06) * np.sin(turn * n + np.float32(n)) for n in (2, 3, 5, 9))
    return np.maximum(depth, np.float32(1.0) - distance + waves)


def later_view(view: View, rng: np.random.Generator) -> View:
    """The view in other light: lower or higher sun from elsewhere, another exposure and white balance."""
    turn = rng.uniform(0.4, 0.9) * rng.choice([-1, 1])
    right, down, out = view.light
    light = (
        right * math.cos(turn) - down * math.sin(turn),
        -abs(right * math.sin(turn) + down * math.cos(turn)),
        out,
    )
    return replace(
        view,
        light=light,
        exposure=view.exposure * rng.uniform(0.75, 0.9),
        warmth=view.warmth + rng.choice([-0.04, 0.04]),
        gradient=(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)),
    )


def draw_camera(rng: np.random.Generator, height: int, width: int) -> Homography:
    """A camera that is nearer, rolled and moved a little, and sees nothing but what the earlier one saw."""
    scale, roll = rng.uniform(1.12, 1.18), math.radians(rng.uniform(-2, 2))
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    turn = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    shift = rng.uniform(-0.02, 0.02, 2) * (width, height)
    moved = np.array([[*turn[0], shift[0]], [*turn[1], shift[1]], [0, 0, 1]])
    return np.asarray(np.linalg.inv(centre) @ moved @ centre)


def photograph_from(camera: Homography, rgb: np.ndarray, rust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture, uint8 (height, width, 3), and its mask, bool (height, width), from another place."""
    size = rgb.shape[1], rgb.shape[0]
    pixels = cv2.warpPerspective(rgb, camera, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(rust.astype(np.uint8), camera, size, flags=cv2.INTER_NEAREST) > 0
    return pixels, mask
