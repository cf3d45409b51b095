"""What lies in an output, read and written with an error in words for a person."""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.imagery.grid import CELL
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError
from ssvq.scores.layout import model_file, staging_folder
from ssvq.scores.schema import ADDED, SCORE_MAP
from ssvq.scores.score_map import ScoreMap


def read_model(scores: str, model_id: str) -> dict[str, Any]:
    """The copy of a model's description beside its score maps. Raises InputError when it is missing."""
    address = model_file(scores, model_id)
    try:
        described: dict[str, Any] = json.loads(storage.read_text(address))
    except FileNotFoundError:
        raise InputError(f"{address} is missing: copy the score maps whole") from None
    return described


def read_pixel_rule(scores: str, model_id: str) -> PixelRule:
    """The rule by which a model sees pixels, from the copy of its description beside its score maps.

    Raises InputError as `read_model`.
    """
    return PixelRule.model_validate(read_model(scores, model_id)["preprocessing"].get("pixels", {}))


@dataclass(frozen=True)
class HeatScale:
    """What the heat of a model means: the side of its latent cells in pixels of a tile, and the distance of a cell at
    the threshold, None where that follows from the score's.
    """

    cell: int
    worst_threshold: float | None

    def decided_by(self, tiles: ScoreMap) -> tuple[str, float]:
        """The column that decides whether a tile is anomalous, and its threshold."""
        return ("score", tiles.threshold) if self.worst_threshold is None else ("score_worst", self.worst_threshold)

    def at_threshold(self, tiles: ScoreMap) -> float:
        """The cell distance at which the heat of a tile passes the threshold that decides.

        The score is the norm over all n cells of a tile (Eq. 5), so that cells that all have threshold / sqrt(n)
        give the threshold; `score_worst` is a distance of cells itself, and so is the score of a method without cells.
        """
        return self.distance_at(self.decided_by(tiles)[1], tiles)

    def distance_at(self, value: float, tiles: ScoreMap) -> float:
        """The uniform cell distance of a tile whose deciding column has this value."""
        if tiles.cells is None or self.worst_threshold is not None:
            return value
        return value / (tiles.tiling.tile_size / self.cell)


def read_heat_scale(scores: str, model_id: str) -> HeatScale:
    """The scale of a model, from its description beside its score maps. Raises InputError as `read_model`."""
    described = read_model(scores, model_id)
    calibration = described.get("calibration", {})
    decides_by_worst = calibration.get("decides") == "score_worst"
    return HeatScale(
        cell=described["preprocessing"].get("cell", CELL),
        worst_threshold=calibration["worst"]["threshold"] if decides_by_worst else None,
    )


def score_at_rate(scores: str, model_id: str, rate: float) -> float:
    """The least value, of the column that decides, whose p-value is at most a rate of false alarms.

    Raises InputError where the model was calibrated on too few tiles to know it.
    """
    calibration = read_model(scores, model_id)["calibration"]
    deciding = calibration["worst"] if calibration.get("decides") == "score_worst" else calibration
    normal = deciding["normal_scores"]
    above = math.floor(rate * (len(normal) + 1)) - 1  # of the normal tiles, that may be at or over it
    if above < 0:
        raise InputError(
            f"--false-positive-rate {rate:g}: model {model_id} was calibrated on {len(normal)} normal tiles, and knows "
            f"no rate under {1 / (len(normal) + 1):.3g}"
        )
    return math.nextafter(normal[len(normal) - 1 - above], math.inf)


def read_score_map(address: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A score map, or some of its columns. Raises InputError when it is missing or damaged, or storage fails."""
    try:
        return parquet.read(address, columns, SCORE_MAP, optional=ADDED)
    except FileNotFoundError:
        raise InputError(f"{address} is missing: run `ssvq score` again, or copy the score maps whole") from None
    except DamagedError as error:
        raise InputError(f"{address} is damaged ({error}): remove it and run `ssvq score` again") from None
    except OSError as error:
        raise InputError(f"{address} cannot be read: {reason_of(error)}") from None


@contextmanager
def temporary_folder(out: str) -> Iterator[Path]:
    """A folder of this machine for a file that `storage.put_file` will put into an output; for a local output on its
    own filesystem, where that is a rename. It is gone afterwards.
    """
    folder = None if storage.is_remote(out) else staging_folder(out)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as place:
        yield Path(place)


def put_output(location: str, data: bytes, out: str) -> None:
    """Put an object for the setting --out. Raises InputError when it cannot be written."""
    try:
        storage.put(location, data)
    except storage.StorageError as error:
        raise InputError(f"--out {out} cannot be written: {reason_of(error)}") from None
