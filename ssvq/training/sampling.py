"""The samples of a training step: a pure function of seed and step.

The global batch of a step is drawn here, and each rank takes its slice. So a run that continues from a checkpoint, or
with another number of workers, sees the same samples as an undisturbed one.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssvq.training.crops import choose_crop, choose_crop_with_part
from ssvq.training.settings import Augmentation
from ssvq.training.tile_cache import TileRef
from ssvq.training.tile_reader import crop_of_mask, tile_pixels

MOSTLY_IN_PART = 0.5  # share of a cell from which it belongs to the labelled part of a tile
_NORMAL, _ANOMALOUS, _CROP, _FIT = range(4)  # random streams that must be independent


@dataclass(frozen=True)
class BatchPlan:
    """Everything needed to make the batch of any step."""

    cache: str
    normal: list[TileRef]
    anomalous: list[TileRef]
    tile_size: int
    sample_size: int
    anomalous_fraction: float
    normal_limit: float
    """A crop is anomalous if its anomalous share reaches the first value, and normal below it and up to the second."""
    normal_in_batch: int
    anomalous_in_batch: int
    augmentation: Augmentation
    seed: int
    cell: int | None = None
    """Side of the cells whose anomalous shares are computed; None: not computed."""


class Batch(NamedTuple):
    """Normal and anomalous samples of a step, uint8 (n, size, size, 3) and (m, size, size, 3).

    `shares`: the anomalous share of each of their cells, float32 (n + m, h, w), NaN if unknown; None if not asked for.
    """

    normal: NDArray[np.uint8]
    anomalous: NDArray[np.uint8]
    shares: NDArray[np.float32] | None = None


@lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, stream, epoch]).permutation(length)


def draw(seed: int, stream: int, start: int, number: int, length: int) -> list[int]:
    """Positions start .. start + number in an endless sequence of permutations of range(length)."""
    return [
        int(_permutation(seed, stream, position // length, length)[position % length])
        for position in range(start, start + number)
    ]


def make_batch(plan: BatchPlan, step: int, rank: int, world_size: int) -> Batch:
    """This rank's samples of a step. All ranks have equally many.

    If the number of ranks does not divide the batch, as in an elastic run, the batch grows to the next multiple.
    """
    streams = (
        (_NORMAL, plan.normal, plan.normal_in_batch, False),
        (_ANOMALOUS, plan.anomalous, plan.anomalous_in_batch, True),
    )
    size = plan.sample_size
    batches: list[NDArray[np.uint8]] = []
    shares: list[NDArray[np.float32]] = []
    for stream, tiles, number, wants_anomalous in streams:
        share = -(-number // world_size)
        first = share * rank
        drawn = draw(plan.seed, stream, step * number + first, share, len(tiles)) if number else []
        batch = np.empty((len(drawn), size, size, 3), np.uint8)
        for i, tile in enumerate(drawn):
            random = _stream(plan.seed, _CROP, stream, step, first + i)
            sample = draw_sample(plan, tiles[tile], wants_anomalous, random)
            batch[i] = sample.pixels()
            if plan.cell is not None:
                shares.append(sample.shares(plan.cell))
        batches.append(batch)
    return Batch(batches[0], batches[1], np.stack(shares) if shares else None)


def samples_to_fit(plan: BatchPlan, most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Normal and anomalous samples, each uint8 (n, size, size, 3), for a method that is fitted to at most `most`
    samples: one from each training tile, or from as many tiles as allowed, in the proportion of the tiles. Not
    augmented.
    """
    share = min(1, most / (len(plan.normal) + len(plan.anomalous)))
    plain, size = replace(plan, augmentation=Augmentation(flips=False, turns=False)), plan.sample_size
    found = []
    for stream, tiles, wants_anomalous in ((_NORMAL, plan.normal, False), (_ANOMALOUS, plan.anomalous, True)):
        drawn = draw(plan.seed, stream, 0, round(share * len(tiles)), len(tiles)) if tiles else []
        samples = np.empty((len(drawn), size, size, 3), np.uint8)
        for i, tile in enumerate(drawn):
            samples[i] = make_sample(plain, tiles[tile], wants_anomalous, _stream(plan.seed, _FIT, stream, i))
        found.append(samples)
    return found[0], found[1]


def _stream(*numbers: int) -> np.random.Generator:
    """A random stream, seeded by these numbers. An array of 32-bit words gives the same stream as a list, in half
    the time.
    """
    return np.random.default_rng(np.array(numbers, np.uint32) if max(numbers) < 2**32 else list(numbers))


@dataclass(frozen=True)
class Sample:
    """A square of a tile, its augmentation, and whether it belongs to the anomalous samples."""

    plan: BatchPlan
    tile: TileRef
    y: int
    x: int
    change: "Change"
    is_anomalous: bool

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 (size, size, 3)."""
        size = self.plan.sample_size
        pixels = tile_pixels(self.plan.cache, self.tile, self.plan.tile_size)
        return self.change.lit(self.change.turned(pixels[self.y : self.y + size, self.x : self.x + size]))

    def shares(self, cell: int) -> NDArray[np.float32]:
        """Anomalous share of each cell, float32 (size / cell, size / cell).

        NaN if unknown: for a tile that is labelled as a whole, in the padding of a small image, and outside the part
        that a label is about.
        """
        tile, size = self.tile, self.plan.sample_size
        side = size // cell
        shares = np.full((side, side), np.nan, np.float32)
        if tile.knows_pixels:
            height = max(0, min(side, (tile.height - self.y) // cell))
            width = max(0, min(side, (tile.width - self.x) // cell))
            shares[:height, :width] = 0
            if not tile.is_clean:
                mask = crop_of_mask(self.plan.cache, tile, self.plan.tile_size, self.y, self.x, size)
                cells = mask[: height * cell, : width * cell].reshape(height, cell, width, cell)
                shares[:height, :width] = cells.mean((1, 3), dtype=np.float32)
        if tile.label_in_mask:
            # A part as small as a cell may lie across several: those that hold most of it get its label.
            most = float(np.nanmax(shares, initial=0.0))
            in_part = shares >= min(MOSTLY_IN_PART, most) if most > 0 else np.zeros_like(shares, bool)
            shares = np.where(in_part, np.float32(self.is_anomalous), np.float32(np.nan))
        return self.change.turned(shares)


def make_sample(plan: BatchPlan, tile: TileRef, wants_anomalous: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random crop of a tile, uint8 (size, size, 3), augmented as the plan says."""
    return draw_sample(plan, tile, wants_anomalous, rng).pixels()


def draw_sample(plan: BatchPlan, tile: TileRef, wants_anomalous: bool, rng: np.random.Generator) -> Sample:
    """Draw a crop of a tile and its augmentation, as the plan says."""
    size = plan.sample_size
    if size == plan.tile_size:
        return Sample(plan, tile, 0, 0, draw_change(plan.augmentation, rng), wants_anomalous)
    if tile.label_in_mask:
        mask = crop_of_mask(plan.cache, tile, plan.tile_size, 0, 0, plan.tile_size)[: tile.height, : tile.width]
        y, x = choose_crop_with_part(mask, size, rng)
        return Sample(plan, tile, y, x, draw_change(plan.augmentation, rng), wants_anomalous)

    def fits(fraction: float) -> bool:
        anomalous = fraction >= plan.anomalous_fraction
        return anomalous if wants_anomalous else not anomalous and fraction <= plan.normal_limit

    def share_at(y: int, x: int) -> float:
        if tile.is_clean:
            return 0.0
        mask = crop_of_mask(plan.cache, tile, plan.tile_size, y, x, size)[: tile.height - y, : tile.width - x]
        return np.count_nonzero(mask) / mask.size

    y, x = choose_crop((tile.height, tile.width), share_at, size, fits, wants_anomalous, rng)
    return Sample(plan, tile, y, x, draw_change(plan.augmentation, rng), wants_anomalous)


class Change(NamedTuple):
    """An augmentation that keeps the label: quarter turns, then a mirror image or not, and a factor of brightness."""

    turns: int = 0
    mirrored: bool = False
    light: float = 1.0

    def turned(self, square: NDArray[Any]) -> NDArray[Any]:
        """A square (size, size, ...) of pixels or cells, as a view."""
        square = np.rot90(square, self.turns)
        return square[:, ::-1] if self.mirrored else square

    def lit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels with changed brightness."""
        return pixels if self.light == 1 else np.clip(pixels * self.light + 0.5, 0, 255).astype(np.uint8)


def draw_change(augmentation: Augmentation, rng: np.random.Generator) -> Change:
    """Draw an augmentation of the enabled kinds."""
    turns = int(rng.integers(4)) if augmentation.turns else 0
    mirrored = bool(augmentation.flips and rng.integers(2))
    light = 1 + augmentation.brightness * rng.uniform(-1, 1) if augmentation.brightness else 1.0
    return Change(turns, mirrored, light)


def augment(sample: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A sample uint8 (size, size, 3) with a random augmentation."""
    change = draw_change(augmentation, rng)
    return change.lit(change.turned(sample))
