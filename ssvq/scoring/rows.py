"""The rows between the stages of scoring.

A row holds whole parts of images (see `ssvq.imagery.units`), with their tiles in columns: Ray Data may split or join
blocks of rows, but never splits a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.units import ImagePart

PARTS = [
    ("parts", pa.list_(pa.string())),
    ("error_stages", pa.list_(pa.string())),
    ("error_messages", pa.list_(pa.string())),
    ("read_seconds", pa.list_(pa.float64())),
    ("tiles", pa.list_(pa.int32())),
    ("decoders", pa.list_(pa.string())),
]
"""One value per part: the part as JSON; the error, or null; seconds of reading; number of tiles; the decoder, or null
before decoding.
"""

TILES = [
    ("kept", pa.list_(pa.int32())),
    ("valid_fraction", pa.list_(pa.float32())),
    ("anomalous_fraction", pa.list_(pa.float32())),
    ("redness", pa.list_(pa.float32())),
    ("redness_p90", pa.list_(pa.float32())),
    ("defect", pa.list_(pa.string())),
]
"""One value per tile with a valid cell: its position in the block of its part, its share of valid pixels, and its
labels and colours, null if they are not known.
"""

SCORES = ("score", "score_max", "score_worst")

LABELS = ("anomalous_fraction", "redness", "redness_p90")

READ = pa.schema(
    [
        *PARTS,
        *TILES,
        ("masked", pa.list_(pa.bool_())),
        ("files", pa.list_(pa.large_binary())),
        ("pixels", pa.large_binary()),
        ("cells", pa.large_binary()),
    ]
)
"""`masked`: one value per part, whether it has invalid cells. `files`: one value per part, the bytes of a JPEG for the
scorer to decode, or null. `pixels`: uint8 (n, t, t, 3), tiles of the other parts. `cells`: bool (n, h, w), valid cells
of the tiles of masked parts.
"""

SCORED = pa.schema(
    [
        *PARTS,
        *TILES,
        ("score_seconds", pa.float64()),
        ("score", pa.list_(pa.float32())),
        ("score_max", pa.list_(pa.float32())),
        ("score_worst", pa.list_(pa.float32())),
        ("score_map", pa.large_binary()),
        ("precision", pa.string()),
    ]
)
"""`score_map`: float16 (n, side, side) of all tiles; null for a method without heat."""


@dataclass(frozen=True)
class TileLabels:
    """Labels and colours of n tiles: float32 (n,) each, and `defect`, strings or null."""

    anomalous_fraction: NDArray[np.float32]
    redness: NDArray[np.float32]
    redness_p90: NDArray[np.float32]
    defect: pa.Array


@dataclass(frozen=True)
class ScoredPart:
    """A part with the scores of its n tiles, or with its error.

    kept: int32 (n,), positions within the part's block. valid_fraction and SCORES: float32 (n,). score_map: float16 (n,
    side, side), or None.
    """

    part: ImagePart
    error: ImageError | None
    kept: NDArray[np.int32]
    valid_fraction: NDArray[np.float32]
    score: NDArray[np.float32]
    score_max: NDArray[np.float32]
    score_worst: NDArray[np.float32]
    score_map: NDArray[np.float16] | None
    labels: TileLabels | None
    precision: str | None
    decoder: str | None
    read_seconds: float
    score_seconds: float


def list_of(values: pa.Array | NDArray[Any]) -> pa.Array:
    """The value of a list column in one row, without a copy."""
    values = pa.array(values)
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def binary_of(array: NDArray[Any] | None) -> pa.Array:
    """The value of a binary column in one row, without a copy: the memory of an array, or null."""
    if array is None:
        return pa.nulls(1, pa.large_binary())
    data = pa.py_buffer(np.ascontiguousarray(array))
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])


def one_row(schema: pa.Schema, columns: dict[str, pa.Array]) -> pa.Table:
    """One row of a schema from columns of one value each; missing columns are null."""
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(1, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def flat(row: pa.Table, column: str) -> pa.Array:
    """The values of a list column in a table of one row."""
    return row[column].combine_chunks().flatten()


def binary(row: pa.Table, column: str, dtype: type[np.generic]) -> NDArray[Any] | None:
    """A binary value in a one-row table as a flat array over its memory, or None. A scalar of Arrow would copy it."""
    (value,) = row[column].chunks
    if value.null_count:
        return None
    _, ends, data = value.buffers()
    start, end = np.frombuffer(ends, np.int64)[value.offset : value.offset + 2]
    return np.frombuffer(data, dtype, (end - start) // np.dtype(dtype).itemsize, start)


def scored_parts(batch: pa.Table) -> Iterator[ScoredPart]:
    """The parts in SCORED rows, as views of their memory."""
    for index in range(len(batch)):
        yield from _parts_of_row(batch.slice(index, 1))


def _parts_of_row(row: pa.Table) -> Iterator[ScoredPart]:
    counts = flat(row, "tiles").to_numpy()
    ends = np.cumsum(counts)
    labelled = row["anomalous_fraction"][0].is_valid
    arrays = {
        name: flat(row, name).to_numpy() for name in ("kept", "valid_fraction", *SCORES, *(LABELS if labelled else ()))
    }
    defect = flat(row, "defect")
    heat = binary(row, "score_map", np.float16)
    if heat is not None:
        side = round((len(heat) / max(1, counts.sum())) ** 0.5)
        heat = heat.reshape(counts.sum(), side, side)
    (precision,), (seconds,) = row["precision"].to_pylist(), row["score_seconds"].to_pylist()
    seconds_of_tile = (seconds or 0.0) / max(1, counts.sum())
    names = ("parts", "error_stages", "error_messages", "read_seconds", "decoders")
    for end, count, part, stage, message, read_seconds, decoder in zip(
        ends, counts, *(flat(row, name).to_pylist() for name in names), strict=True
    ):
        own = slice(end - count, end)
        labels = TileLabels(**{name: arrays[name][own] for name in LABELS}, defect=defect[own]) if labelled else None
        yield ScoredPart(
            part=ImagePart.from_json(part),
            error=None if stage is None else ImageError(stage, message),
            **{name: arrays[name][own] for name in ("kept", "valid_fraction", *SCORES)},
            score_map=None if heat is None else heat[own],
            labels=labels,
            precision=precision,
            decoder=decoder,
            read_seconds=read_seconds,
            score_seconds=seconds_of_tile * count,
        )
