"""What a training step sees: a pure function of the seed and the step.

The global batch of a step is drawn here, and each rank takes its slice of it. A run that goes on from a
checkpoint, or with another number of workers, therefore sees the same samples as an undisturbed one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssvq.config import Augmentation
from ssvq.training.tile_cache import TileRef, read_tile

CROP_TRIES = 8
_NORMAL, _ANOMALOUS, _CROP, _FIT = range(4)  # streams of random numbers that must not meet


@dataclass(frozen=True)
class BatchPlan:
    """All that is needed to make the batch of any step."""

    cache: str
    normal: list[TileRef]
    anomalous: list[TileRef]
    tile_size: int
    sample_size: int
    anomalous_fraction: float
    normal_limit: float
    """A crop is anomalous at or over the first share of anomalous pixels, and normal under it and up to the second."""
    normal_in_batch: int
    anomalous_in_batch: int
    augmentation: Augmentation
    seed: int


@lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, stream, epoch]).permutation(length)


def draw(seed: int, stream: int, start: int, number: int, length: int) -> list[int]:
    """Positions start .. start + number of an endless sequence of permutations of range(length)."""
    return [
        int(_permutation(seed, stream, position // length, length)[position % length])
        for position in range(start, start + number)
    ]


def make_batch(plan: BatchPlan, step: int, rank: int, world_size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """This rank's normal and anomalous samples of a step, each uint8 (n, size, size, 3).

    Every rank has equally many. A number of ranks that does not divide the batch, as an elastic run may come to, makes
    the batch larger by what is lacking.
    """
    streams = (
        (_NORMAL, plan.normal, plan.normal_in_batch, False),
        (_ANOMALOUS, plan.anomalous, plan.anomalous_in_batch, True),
    )
    batches = []
    for stream, tiles, number, wants_anomalous in streams:
        share = -(-number // world_size)
        first = share * rank
        drawn = draw(plan.seed, stream, step * number + first, share, len(tiles)) if number else []
        samples = [
            make_sample(plan, tiles[tile], wants_anomalous, np.random.default_rng([plan.seed, _CROP, stream, step, i]))
            for i, tile in enumerate(drawn, start=first)
        ]
        size = plan.sample_size
        batches.append(np.stack(samples) if samples else np.empty((0, size, size, 3), np.uint8))
    return batches[0], batches[1]


def samples_to_fit(plan: BatchPlan, most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Normal and anomalous samples, each uint8 (n, size, size, 3), for a method that is fitted to at most so many: one
    of each training tile, or of as many as there may be, in the proportion of the tiles. Not augmented.
    """
    share = min(1, most / (len(plan.normal) + len(plan.anomalous)))
    plain = replace(plan, augmentation=Augmentation(flips=False, turns=False))
    found = []
    for stream, tiles, wants_anomalous in ((_NORMAL, plan.normal, False), (_ANOMALOUS, plan.anomalous, True)):
        drawn = draw(plan.seed, stream, 0, round(share * len(tiles)), len(tiles)) if tiles else []
        samples = [
            make_sample(plain, tiles[tile], wants_anomalous, np.random.default_rng([plan.seed, _FIT, stream, i]))
            for i, tile in enumerate(drawn)
        ]
        size = plan.sample_size
        found.append(np.stack(samples) if samples else np.empty((0, size, size, 3), np.uint8))
    return found[0], found[1]


def make_sample(plan: BatchPlan, tile: TileRef, wants_anomalous: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random crop of a tile, uint8 (size, size, 3), changed at random as the plan says."""
    pixels, mask = read_tile(plan.cache, tile, plan.tile_size)
    if plan.sample_size == plan.tile_size:
        return augment(pixels, plan.augmentation, rng)

    def fits(fraction: float) -> bool:
        anomalous = fraction >= plan.anomalous_fraction
        return anomalous if wants_anomalous else not anomalous and fraction <= plan.normal_limit

    y, x = choose_crop(mask[: tile.height, : tile.width], plan.sample_size, fits, wants_anomalous, rng)
    return augment(pixels[y : y + plan.sample_size, x : x + plan.sample_size], plan.augmentation, rng)


def augment(sample: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A sample uint8 (size, size, 3) changed at random in ways that leave its label as it is."""
    if augmentation.turns:
        sample = np.rot90(sample, int(rng.integers(4)))
    if augmentation.flips and rng.integers(2):
        sample = sample[:, ::-1]
    if augmentation.brightness:
        factor = 1 + augmentation.brightness * rng.uniform(-1, 1)
        sample = np.clip(sample * factor + 0.5, 0, 255).astype(np.uint8)
    return sample


def choose_crop(
    mask: NDArray[np.bool_],
    size: int,
    fits: Callable[[float], bool],
    wants_anomalous: bool,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Corner y, x of a random crop whose share of the mask, bool (height, width), fits; the nearest of a few tries
    where none does. A crop larger than the mask starts at 0.
    """
    height, width = mask.shape
    best, best_fraction = (0, 0), -1.0
    for _ in range(CROP_TRIES):
        y = int(rng.integers(max(0, height - size) + 1))
        x = int(rng.integers(max(0, width - size) + 1))
        fraction = float(mask[y : y + size, x : x + size].mean())
        if fits(fraction):
            return y, x
        nearness = fraction if wants_anomalous else 1 - fraction
        if nearness > best_fraction:
            best, best_fraction = (y, x), nearness
    return best
