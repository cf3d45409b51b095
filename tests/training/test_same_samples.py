"""The same seed and step give the same samples as in ssvq 0.1.0: the digests are of what it drew."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ssvq.config import Augmentation
from ssvq.imagery.catalog import Mask, SourceImage
from ssvq.imagery.grid import Tiling
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import inspect, read_unit, split_image
from ssvq.training.sampling import BatchPlan, make_batch, samples_to_fit
from ssvq.training.tile_cache import tile_refs, write_index, write_part
from tests.support.images import write_image

TILE = 48


def plan_of(folder: Path, sample_size: int, **changes: object) -> BatchPlan:
    """A plan over a cache of tiles with patches of rust, some of them of an image smaller than a tile."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, object]] = []
    for number, (height, width) in enumerate(((96, 144), (100, 50), (40, 48))):
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2, width // 3 : width // 3 + 30] = 1
        image = write_image(folder / f"{number}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
        source = SourceImage(str(image), image.name, "1", 1, Mask(str(write_image(folder / f"m{number}.png", mask))))
        for part in split_image(source, inspect(source), Tiling(tile_size=TILE, stride=TILE)):
            ((_, tiles),) = read_unit([part])
            assert isinstance(tiles, TileArrays)
            rows += write_part(str(folder / "cache"), part, tiles)
    index = write_index(str(folder / "cache"), rows)
    fraction = index["anomalous_fraction"].to_numpy()
    settings: dict[str, object] = {
        "cache": str(folder / "cache"),
        "normal": tile_refs(index, np.flatnonzero(fraction < 0.2)),
        "anomalous": tile_refs(index, np.flatnonzero(fraction >= 0.2)),
        "tile_size": TILE,
        "sample_size": sample_size,
        "anomalous_fraction": 0.3,
        "normal_limit": 0.1,
        "normal_in_batch": 5,
        "anomalous_in_batch": 3,
        "augmentation": Augmentation(brightness=0.2),
        "seed": 11,
    }
    return BatchPlan(**settings | changes)  # type: ignore[arg-type]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("sample_size", "expected"),
    [
        (16, ["9c397d61e5c73aa8", "f893b7a0926a94ba", "b2227922ab1eef96"]),
        (44, ["a4c26ef925a3f6fc", "66cda27d1e973ec1", "f7248b7a374a4473"]),
        (TILE, ["1885c32f9b05f8db", "064ca5f7a3a43799", "0507f2b01e47af55"]),
    ],
)
def test_samples_are_what_they_were(tmp_path: Path, sample_size: int, expected: list[str]) -> None:
    plan = plan_of(tmp_path, sample_size)
    alone = digest(*(array for step in range(20) for array in make_batch(plan, step, 0, 1)[:2]))
    shared = digest(
        *(array for step in (3, 4000) for rank in range(2) for array in make_batch(plan, step, rank, 2)[:2])
    )
    assert [alone, shared, digest(*samples_to_fit(plan, 7))] == expected
