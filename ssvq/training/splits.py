"""Splits images into training, validation, calibration and test: by image or group, never by tile.

Images of one group (photographs of one part) are always in one split. Splits given by a manifest are kept.
"""

from collections.abc import Iterable

import numpy as np

from ssvq.errors import InputError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.manifest import SPLITS
from ssvq.training.settings import TrainConfig

TRAIN, VALIDATION, CALIBRATION, TEST = SPLITS


def draw_splits(
    images: Iterable[SourceImage], with_anomaly: set[str], config: TrainConfig, rng: np.random.Generator
) -> dict[str, str]:
    """The split of each image, by image_id.

    Groups with and without anomalous tiles are drawn separately, so that each split has both if there are enough.
    Raises InputError for a group that a manifest puts into two splits.
    """
    groups: dict[str, list[SourceImage]] = {}
    for image in images:
        groups.setdefault(image.image_id if image.group is None else f"group {image.group}", []).append(image)
    splits = {name: split for name, members in groups.items() if (split := _given(name, members)) is not None}
    names = sorted(groups.keys() - splits.keys())
    anomalous = {name for name in names if any(image.image_id in with_anomaly for image in groups[name])}
    for stratum in ([name for name in names if name in anomalous], [name for name in names if name not in anomalous]):
        splits.update(_draw(stratum, config, rng))
    return {image.image_id: splits[name] for name, members in groups.items() for image in members}


def draw_splits_alike(images: Iterable[SourceImage], config: TrainConfig, rng: np.random.Generator) -> dict[str, str]:
    """`draw_splits` for few images: it ignores anomalies, so that every split has an image."""
    return draw_splits(images, set(), config, rng)


def _given(name: str, members: list[SourceImage]) -> str | None:
    given = sorted({image.split for image in members if image.split is not None})
    if len(given) > 1:
        raise InputError(f"{name} is in the splits {' and '.join(given)}: images of one group belong in one")
    return given[0] if given else None


def _draw(names: list[str], config: TrainConfig, rng: np.random.Generator) -> dict[str, str]:
    """Splits of names. Each split with a fraction gets at least one name, as long as one is left for training."""
    order = [str(name) for name in rng.permutation(names)] if names else []
    shares = {
        VALIDATION: config.validation_fraction,
        CALIBRATION: config.calibration_fraction,
        TEST: config.test_fraction,
    }
    wanted = [(split, max(round(fraction * len(names)), 1)) for split, fraction in shares.items() if fraction > 0]
    drawn: dict[str, str] = {}
    for position, (split, number) in enumerate(wanted):
        left = len(names) - 1 - len(drawn)
        later = len(wanted) - 1 - position
        drawn.update(dict.fromkeys(order[len(drawn) :][: max(min(number, left - later), min(left, 1), 0)], split))
    return drawn | dict.fromkeys(order[len(drawn) :], TRAIN)
