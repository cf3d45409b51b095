"""The stages that tiles flow through on Ray Data: read on CPU tasks, score on an actor pool, write.

A row is a part of an image (see `ssvq.imagery.units`), with its tiles as one binary value: rows are never
split, so a part stays whole whatever blocks Ray Data makes. A part that failed goes through all stages with its
error and no tiles.
"""

import time
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ssvq.config import Device, Precision, ReadLimits, ScoringSettings
from ssvq.errors import ImageError
from ssvq.imagery.colour import redness
from ssvq.imagery.decoder import decoder
from ssvq.imagery.grid import CELL
from ssvq.imagery.tiles import TileArrays, valid_cells
from ssvq.imagery.units import ImagePart
from ssvq.pipeline import TASK_RETRIES, units_dataset, units_of
from ssvq.placement import anywhere, cpu_scorers, gpus_for, node_cpus, readers
from ssvq.scoring.writer import ScoringRun, write_parts

_PART_FIELDS = [
    ("part", pa.string()),
    ("error_stage", pa.string()),
    ("error_message", pa.string()),
    ("read_seconds", pa.float64()),
    ("kept", pa.list_(pa.int32())),
    ("valid_fraction", pa.list_(pa.float32())),
    ("anomalous_fraction", pa.list_(pa.float32())),
    ("redness", pa.list_(pa.float32())),
    ("redness_p90", pa.list_(pa.float32())),
    ("defect", pa.list_(pa.string())),
]
# A scorer on a CPU uses all of its node, whatever it asks for. That is little, so that scorers which move to the last
# nodes of a cluster that loses the others leave logical CPUs for the readers, without which they would wait for ever.
CPU_SCORER_CPUS = 0.1
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Arrays = tuple[int, NDArray[np.uint8], NDArray[np.bool_] | None]  # row, pixels, valid cells

READ = pa.schema([*_PART_FIELDS, ("pixels", pa.large_binary()), ("valid_cells", pa.large_binary())])
SCORED = pa.schema(
    [
        *_PART_FIELDS,
        ("score_seconds", pa.float64()),
        ("score", pa.list_(pa.float32())),
        ("score_max", pa.list_(pa.float32())),
        ("score_map", pa.list_(pa.list_(pa.list_(pa.float16())))),
        ("precision", pa.string()),
    ]
)
"""`kept`: positions, within the part's block, of the tiles that have a valid cell; the lists have one entry each."""


def score_units(units: list[list[ImagePart]], config: ScoringSettings) -> ray.data.Dataset:
    """A data set of SCORED rows, one for each part of the units."""
    tiles = units_dataset(units).map_batches(
        read_parts,
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"limits": config.read},
        num_cpus=1,
        max_retries=TASK_RETRIES,
        **readers(),
    )
    gpus = gpus_for(config.device)
    return tiles.map_batches(
        ScoreParts,
        batch_size=None,
        batch_format="pyarrow",
        compute=_pool(config, gpus),
        fn_constructor_args=[config.model, config.batch_size, config.device, config.precision, config.compile],
        num_cpus=1 if gpus else CPU_SCORER_CPUS,
        num_gpus=config.gpus_per_scorer if gpus else 0,
        max_restarts=TASK_RETRIES,
        max_task_retries=TASK_RETRIES,
        **anywhere(),
    )


def _pool(config: ScoringSettings, gpus: int) -> ray.data.ActorPoolStrategy:
    """As many scorers as the settings say, else as fit on the GPUs, else one a node; or as many as the work needs."""
    if config.max_scorers is not None:
        return ray.data.ActorPoolStrategy(min_size=config.scorers or 1, max_size=config.max_scorers)
    return ray.data.ActorPoolStrategy(size=config.scorers or int(gpus / config.gpus_per_scorer) or cpu_scorers())


def write_units(scored: ray.data.Dataset, run: ScoringRun) -> ray.data.Dataset:
    """A data set of OUTCOME rows of SCORED ones: images are put as they come."""
    return scored.map_batches(
        write_parts,
        fn_kwargs={"run": run},
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.25,
        max_retries=TASK_RETRIES,
        **anywhere(),
    )


def read_parts(batch: pa.Table, limits: ReadLimits) -> Iterator[pa.Table]:
    """READ rows of the units in a batch, as they are read."""
    for unit in units_of(batch):
        started = time.perf_counter()
        for part, result in decoder(limits).read(unit):
            row = _error(part, result) if isinstance(result, ImageError) else _tiles(part, result)
            yield _read_row(row | {"read_seconds": time.perf_counter() - started})
            started = time.perf_counter()


def _read_row(row: dict[str, Any]) -> pa.Table:
    """One READ row; its arrays, uint8 (n, t, t, 3) and bool (n, h, w), are not copied."""
    columns = []
    for field in READ:
        value = row.get(field.name)
        if isinstance(value, np.ndarray):
            data = pa.py_buffer(np.ascontiguousarray(value))
            ends = pa.py_buffer(np.array([0, data.size], np.int64))
            columns.append(pa.Array.from_buffers(field.type, 1, [None, ends, data]))
        else:
            columns.append(pa.array([value], field.type))
    return pa.Table.from_arrays(columns, schema=READ)


def _error(part: ImagePart, error: ImageError) -> dict[str, Any]:
    return {"part": part.to_json(), "error_stage": error.stage, "error_message": error.message}


def _tiles(part: ImagePart, tiles: TileArrays) -> dict[str, Any]:
    kept = np.arange(len(tiles.pixels))
    row: dict[str, Any] = {"part": part.to_json()}
    if tiles.valid is not None:
        cells = valid_cells(tiles.valid, CELL)
        kept = np.flatnonzero(cells.any(axis=(1, 2)))
        row["valid_cells"] = cells[kept]
    pixels = tiles.pixels[kept] if len(kept) < len(tiles.pixels) else tiles.pixels
    row |= {
        "kept": kept.tolist(),
        "valid_fraction": tiles.valid_fraction[kept].tolist(),
        "pixels": pixels,
    }
    if tiles.classes is not None:
        mean, p90 = redness(pixels)
        row |= {
            "anomalous_fraction": tiles.anomalous_fraction[kept].tolist(),
            "redness": mean.tolist(),
            "redness_p90": p90.tolist(),
            "defect": [_defect(classes, part.source.label) for classes in tiles.classes[kept]],
        }
    return row


def _defect(classes: NDArray[np.uint8], label: str | None) -> str | None:
    """Name of what is wrong with a tile: of its image's defect, else the most frequent class id of its mask."""
    counts = np.bincount(classes.ravel(), minlength=2)[1:]
    if not counts.any():
        return None
    return label or str(counts.argmax() + 1)


class ScoreParts:
    """The actor of the scoring pool: loads the model once, and scores block after block."""

    def __init__(self, model: str, batch_size: int, device: Device, precision: Precision, compile: bool) -> None:
        import torch  # here, so that processes that read or write start without it: in half the time, and memory

        from ssvq.scoring.scorer import TileScorer

        # Ray pins a worker to as many threads as it has logical CPUs; one scorer may use the whole machine.
        torch.set_num_threads(node_cpus())
        self.scorer = TileScorer.from_bundle(model, batch_size, device, precision, compile=compile)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """SCORED rows of READ rows."""
        rows = _rows(batch)
        done = [{name: row[name] for name, _ in _PART_FIELDS} for row in rows]
        arrays = [(index, *_arrays(row)) for index, row in enumerate(rows) if row["error_stage"] is None]
        for masked in (False, True):
            self._score([part for part in arrays if (part[2] is not None) == masked], done)
        return pa.Table.from_pylist(done, SCORED)

    def _score(self, parts: list[_Arrays], rows: list[dict[str, Any]]) -> None:
        """Add the scores of parts to their rows. Their tiles share batches: many images may have a tile or two each."""
        if not parts:
            return
        started = time.perf_counter()
        cells = [cells for _, _, cells in parts if cells is not None]
        scores = self.scorer.score(_together([pixels for _, pixels, _ in parts]), _together(cells) if cells else None)
        seconds = (time.perf_counter() - started) / max(1, len(scores.score))
        start = 0
        for index, own, _ in parts:
            tiles = slice(start, start + len(own))
            start += len(own)
            score_map = None if scores.score_map is None else [list(plane) for plane in scores.score_map[tiles]]
            rows[index] |= {
                "score_seconds": seconds * len(own),
                "score": scores.score[tiles],
                "score_max": scores.score_max[tiles],
                "score_map": score_map,
                "precision": self.scorer.precision,
            }


def _together(arrays: list[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    """Arrays of tiles as one; a single one as it is, without a copy."""
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _rows(batch: pa.Table) -> list[dict[str, Any]]:
    """Rows with their binary values as buffers, which are not copied."""
    binary = ("pixels", "valid_cells")
    rows = batch.drop_columns(list(binary)).to_pylist()
    for index, row in enumerate(rows):
        row |= {name: batch[name][index].as_buffer() for name in binary}
    return rows


def _arrays(row: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    size = ImagePart.from_json(row["part"]).tiling.tile_size
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(-1, size, size, 3)
    if row["valid_cells"] is None:
        return pixels, None
    return pixels, np.frombuffer(row["valid_cells"], bool).reshape(len(pixels), size // CELL, size // CELL)
