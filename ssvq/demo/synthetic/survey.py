"""Photographing the steel: the pictures of a survey, some of them a year later, and an orthomosaic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ssvq.demo.synthetic import steel
from ssvq.demo.synthetic.camera import PAINTS, View, draw_view, expose, to_structure
from ssvq.demo.synthetic.later import Year, draw_camera, later_view, photograph_from, plan_year
from ssvq.demo.synthetic.noise import fractal_noise, grow_patches
from ssvq.demo.synthetic.rust import corrode


@dataclass(frozen=True)
class SyntheticImage:
    """One picture with its truth."""

    name: str  # without extension
    rgb: np.ndarray  # uint8 (height, width, 3)
    rust: np.ndarray  # bool (height, width)


def _grid(box: tuple[float, float, float, float], pitch: float) -> np.ndarray:
    """Places (n, 2) of rows of bolts within (left, top, right, bottom)."""
    left, top, right, bottom = box
    columns = np.linspace(left, right, max(round((right - left) / pitch), 1) + 1)
    rows = np.linspace(top, bottom, max(round((bottom - top) / pitch), 1) + 1)
    return np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)


def _assemble(surface: steel.Surface, rng: np.random.Generator, *, ground: bool) -> None:
    """Seams, splice plates with bolts, rows of rivets and what lies behind the edge of the steel."""
    height, width = surface.shape
    for level, size in ((True, height), (False, width)):
        for _ in range(int(rng.choice([0, 1, 1, 2]))):
            steel.add_seam(surface, rng, level=level, position=rng.uniform(-0.45, 0.45) * size)
    radius = rng.uniform(13, 24)
    box = (0.0, 0.0, 0.0, 0.0)
    if rng.random() < 0.55:
        middle = (rng.uniform(-0.35, 0.35) * width, rng.uniform(-0.35, 0.35) * height)
        half = (rng.uniform(0.06, 0.25) * width, rng.uniform(0.06, 0.25) * height)
        box = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
        steel.add_plate(surface, box, rng.uniform(4, 9))
        inset = 2.4 * radius
        inner = (box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset)
        steel.add_bolts(surface, rng, _grid(inner, radius * rng.uniform(4.5, 7)), radius)
    for _ in range(int(rng.integers(0, 3))):
        upright, place = rng.random() < 0.4, rng.uniform(-0.48, 0.48)
        row = (
            (place * width, -height, place * width + 1, height)
            if upright
            else (-width, place * height, width, place * height + 1)
        )
        places = np.unique(_grid(row, radius * rng.uniform(3.5, 6)).round(), axis=0)
        gap = np.maximum(np.array(box[:2]) - places, places - np.array(box[2:])).max(1)
        steel.add_bolts(surface, rng, places[gap > 2 * radius], radius)
    if rng.random() < 0.45:
        # The flange stands off the web: a thick step whose shadow falls on the plate below it.
        depth = rng.uniform(-0.45, -0.25) * height
        steel.add_plate(surface, (-2 * width, -2 * height, 2 * width, depth), rng.uniform(9, 16))
    if ground:
        level = bool(rng.random() < 0.5)
        position = rng.uniform(0.1, 0.38) * (height if level else width)
        steel.add_ground(surface, rng, level=level, position=position)


def _photograph(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    growth: float | np.ndarray,
    view: View,
    ground: bool = False,
    plate: bool = False,
    year: Year | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (height, width, 3) and rust bool (height, width); a `plate` is welded along all its edges. After a
    `year` the steel is the same, and rust, light and noise are not.
    """
    surface = steel.bare_surface(view.paint, to_structure(view, height, width), height, width)
    shape = fractal_noise(rng, height, width, coarse=256, fine=1, roughness=0.8)
    grit = fractal_noise(rng, height, width, coarse=16, roughness=0.35)
    _assemble(surface, rng, ground=ground)
    for level, size in ((True, height), (False, width)) if plate else ():
        for side in (-0.5, 0.5):
            steel.add_seam(surface, rng, level=level, position=side * size)
    steel.weather(surface, rng, shape[:, ::-1])
    for _ in range(int(rng.integers(0, 3))):
        steel.add_marking(surface, rng, shape[::-1])
    steel.add_scratches(surface, rng, int(rng.integers(0, 25)))
    steel.roughen(surface, rng, grit[::-1, ::-1])
    kind = np.random.default_rng(view.rust_kind)
    corrode(surface, rng, shape, grit, growth, kind, None if year is None else year.spread)
    if year is not None:
        rng = np.random.default_rng([view.rust_kind, 1])
        view = later_view(view, rng)
    return expose(surface, view, rng), surface.rust


def paint_steel(
    rng: np.random.Generator, height: int, width: int, *, corrosion: float
) -> tuple[np.ndarray, np.ndarray]:
    """One picture: rgb uint8 (height, width, 3) and rust bool (height, width).

    `corrosion` in [0, 1]: 0 no rust at all, 1 nearly all of the steel rusted.
    """
    return _photograph(
        rng, height, width, growth=0.94 * corrosion, view=draw_view(rng), ground=bool(rng.random() < 0.3)
    )


def draw_corrosion(rng: np.random.Generator, number: int) -> np.ndarray:
    """Corrosion, float64 (number,), of the pictures of a survey: many sound, some spotted, some eaten up.

    Stratified, so that a survey of few pictures has all three kinds too.
    """
    rank = (rng.permutation(number) + rng.random(number)) / max(number, 1)
    spotted = 0.03 + 0.22 * ((rank - 0.45) / 0.2) ** 2
    eaten = 0.45 + 0.5 * (rank - 0.65) / 0.35
    nearly_none = np.where(rank > 0.35, 0.01, 0.0)
    return np.select([rank < 0.45, rank < 0.65], [nearly_none, spotted], eaten)


def paint_survey(seed: int, photographs: int, height: int, width: int) -> Iterator[SyntheticImage]:
    """The photographs of a survey, one at a time, the same for the same arguments."""
    for index in range(photographs):
        yield _paint(_plan_survey(seed, photographs), index, height, width)


def paint_later(seed: int, photographs: int, height: int, width: int) -> Iterator[tuple[SyntheticImage, float]]:
    """A few photographs of `paint_survey` a year later, under their names, from a camera that is nearer; and the growth
    of their rust, its area over that of the year before where both pictures show the steel (infinite from none).
    """
    plan = _plan_survey(seed, photographs)
    for index, year in sorted(plan_year(plan.corrosion).items()):
        before = _paint(plan, index, height, width)
        after = _paint(plan, index, height, width, year)
        camera = draw_camera(np.random.default_rng([seed, 3, index]), height, width)
        _, old_rust = photograph_from(camera, before.rgb, before.rust)
        rgb, rust = photograph_from(camera, after.rgb, after.rust)
        growth = int(rust.sum()) / int(old_rust.sum()) if old_rust.any() else math.inf
        yield SyntheticImage(after.name, rgb, rust), growth


@dataclass(frozen=True)
class _Plan:
    """What is drawn for a survey before its pictures: their share of rust and their paint."""

    seed: int
    corrosion: list[float]
    paints: list[tuple[int, int, int]]


def _plan_survey(seed: int, photographs: int) -> _Plan:
    rng = np.random.default_rng([seed, 0])
    corrosion = draw_corrosion(rng, photographs).tolist()
    paints = [PAINTS[index % len(PAINTS)] for index in rng.permutation(max(photographs, len(PAINTS)))]
    return _Plan(seed, corrosion, paints)


def _paint(plan: _Plan, index: int, height: int, width: int, year: Year | None = None) -> SyntheticImage:
    rng = np.random.default_rng([plan.seed, 1, index])
    rgb, rust = _photograph(
        rng, height, width, growth=0.94 * plan.corrosion[index], view=draw_view(rng, plan.paints[index]),
        ground=bool(rng.random() < 0.3), year=year,
    )  # fmt: skip
    return SyntheticImage(f"steel_{index:04d}", rgb, rust)


def paint_orthomosaic(seed: int, height: int, width: int) -> SyntheticImage:
    """The wall of a tank seen square on: courses of plates of one paint, with rust that spreads across them.

    Painted plate by plate, so that only the bytes of the whole are ever in memory.
    """
    rng = np.random.default_rng([seed, 2])
    rgb, rust = np.empty((height, width, 3), np.uint8), np.empty((height, width), bool)
    common = replace(draw_view(rng), tilt=0.0, keystone=(0.0, 0.0), gradient=(0.0, 0.0), vignette=0.0, overcast=True)
    step = steel.GRID
    small = (math.ceil(height / step), math.ceil(width / step))
    broad = fractal_noise(rng, *small, coarse=32, roughness=0.8)
    anywhere = np.ones(small, bool)
    growth = grow_patches(rng, np.zeros(small, np.float32), anywhere, broad, 0.3, step=1, centres=5)
    courses, plates = max(round(height / 1365), 1), max(round(width / 2048), 1)
    rows = np.linspace(0, small[0], courses + 1).astype(int)
    for course, (top, bottom) in enumerate(pairwise(rows.tolist())):
        joints = (np.arange(plates + 2) - 0.5 * (1 + course % 2)).clip(0, plates) * small[1] / plates
        for left, right in pairwise(np.unique(joints.astype(int)).tolist()):
            window = np.s_[top * step : bottom * step, left * step : right * step]
            size = rust[window].shape
            own = replace(common, exposure=common.exposure * rng.uniform(0.98, 1.02))
            rgb[window], rust[window] = _photograph(
                rng, *size, growth=growth[top:bottom, left:right], view=own, plate=True
            )
    return SyntheticImage("orthomosaic", rgb, rust)
