"""Reads and writes the objects of an output, with errors in words for a person."""

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
        raise InputError(f"{address} is missing: copy the complete output") from None
    return described


def read_pixel_rule(scores: str, model_id: str) -> PixelRule:
    """The rule by which a model reads pixels, from its description beside the score maps. Raises InputError as
    `read_model`.
    """
    return PixelRule.model_validate(read_model(scores, model_id)["preprocessing"].get("pixels", {}))


@dataclass(frozen=True)
class HeatScale:
    """The scale of a model's heat: the side of its latent cells in tile pixels, and the cell distance at the threshold.
    The distance is None if it follows from the threshold of `score`.
    """

    cell: int
    worst_threshold: float | None

    def decided_by(self, tiles: ScoreMap) -> tuple[str, float]:
        """The column that decides whether a tile is anomalous, and its threshold."""
        return ("score", tiles.threshold) if self.worst_threshold is None else ("score_worst", self.worst_threshold)

    def at_threshold(self, tiles: ScoreMap) -> float:
        """The uniform cell distance at which a tile reaches the threshold.

        `score` is the norm over all n cells of a tile (Eq. 5), so the distance is threshold / sqrt(n). `score_worst`,
        and the score of a method without cells, are cell distances already.
        """
        return self.distance_at(self.decided_by(tiles)[1], tiles)

    def distance_at(self, value: float, tiles: ScoreMap) -> float:
        """The uniform cell distance at which the deciding column of a tile has this value."""
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
    """The smallest value of the deciding column whose p-value is at most `rate`.

    Raises InputError if the model was calibrated on too few tiles to know the rate.
    """
    calibration = read_model(scores, model_id)["calibration"]
    deciding = calibration["worst"] if calibration.get("decides") == "score_worst" else calibration
    normal = deciding["normal_scores"]
    above = math.floor(rate * (len(normal) + 1)) - 1  # normal tiles that may reach it
    if above < 0:
        raise InputError(
            f"--false-positive-rate {rate:g}: model {model_id} was calibrated on {len(normal)} normal tiles, so it "
            f"knows no rate below {1 / (len(normal) + 1):.3g}"
        )
    return math.nextafter(normal[len(normal) - 1 - above], math.inf)


def read_score_map(address: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A score map, or some of its columns. Raises InputError if it is missing or damaged, or if the storage fails."""
    try:
        return parquet.read(address, columns, SCORE_MAP, optional=ADDED)
    except FileNotFoundError:
        raise InputError(f"{address} is missing: run `ssvq score` again, or copy the complete output") from None
    except DamagedError as error:
        raise InputError(f"{address} is damaged ({error}): remove it and run `ssvq score` again") from None
    except OSError as error:
        raise InputError(f"{address} cannot be read: {reason_of(error)}") from None


@contextmanager
def temporary_folder(out: str) -> Iterator[Path]:
    """A temporary folder for a file that `storage.put_file` will move into an output. For a local output it is on the
    same filesystem, so that the move is a rename.
    """
    folder = None if storage.is_remote(out) else staging_folder(out)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as place:
        yield Path(place)


def put_output(location: str, data: bytes, out: str) -> None:
    """Write an object for the setting --out. Raises InputError if it cannot be written."""
    try:
        storage.put(location, data)
    except storage.StorageError as error:
        raise InputError(f"--out {out} cannot be written: {reason_of(error)}") from None
