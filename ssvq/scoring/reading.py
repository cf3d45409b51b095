"""The reading stage: from units to the tiles of their parts, in columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.arena import moved_together
from ssvq.imagery.colour import redness
from ssvq.imagery.decoder import DecodedBundle
from ssvq.imagery.settings import ReadLimits
from ssvq.imagery.tiles import TileArrays, valid_cells
from ssvq.imagery.units import ImagePart
from ssvq.runtime.dispatcher import Dispatcher
from ssvq.runtime.planning import units_of
from ssvq.runtime.reading import read_bundles
from ssvq.scoring.jpeg_files import CPU_DECODER, file_row, is_for_gpu
from ssvq.scoring.rows import LABELS, READ, binary_of, list_of, one_row


def read_parts(
    batch: pa.Table, limits: ReadLimits, cell: int, dispatcher: Dispatcher, jpegs_as_files: bool = False
) -> Iterator[pa.Table]:
    """READ rows of the units in a batch, as they are read.

    Args: `cell`: side of a latent cell in pixels. `jpegs_as_files`: pass JPEG files on undecoded.
    """
    for unit in units_of(batch):
        if jpegs_as_files:
            as_files = [part for part, error in unit if error is None and is_for_gpu(part)]
            if as_files:
                yield file_row(as_files)
            unit = [(part, error) for part, error in unit if part not in as_files]
            if not unit:
                continue
        for bundle in read_bundles(unit, limits, dispatcher):
            yield _row(bundle, cell)
            del bundle  # the next unit reuses its memory


@dataclass(frozen=True)
class _PartTiles:
    """The n tiles of a part that have a valid cell.

    Positions int32 (n,), pixels uint8 (n, t, t, 3), valid cells bool (n, h, w) or None for all, valid share float32
    (n,), and columns of labels if they are known.
    """

    kept: NDArray[np.int32]
    pixels: NDArray[np.uint8]
    cells: NDArray[np.bool_] | None
    valid_fraction: NDArray[np.float32]
    labels: dict[str, pa.Array]


def _row(bundle: DecodedBundle, cell: int) -> pa.Table:
    """One READ row of a bundle of parts; its pixels are not copied."""
    errors = [result if isinstance(result, ImageError) else None for _, result in bundle.parts]
    tiles = [
        None if isinstance(result, ImageError) else _part_tiles(part, result, cell) for part, result in bundle.parts
    ]
    columns = {
        "parts": pa.array([part.to_json() for part, _ in bundle.parts], pa.string()),
        "error_stages": pa.array([error and error.stage for error in errors], pa.string()),
        "error_messages": pa.array([error and error.message for error in errors], pa.string()),
        "read_seconds": pa.array(bundle.seconds, pa.float64()),
        "tiles": pa.array([0 if own is None else len(own.kept) for own in tiles], pa.int32()),
        "decoders": pa.array([None if error else CPU_DECODER for error in errors], pa.string()),
        "masked": pa.array([own is not None and own.cells is not None for own in tiles], pa.bool_()),
    }
    read = [own for own in tiles if own is not None]
    columns["kept"] = _together([own.kept for own in read], pa.int32())
    columns["valid_fraction"] = _together([own.valid_fraction for own in read], pa.float32())
    if read and all(own.labels for own in read):
        columns |= {name: pa.concat_arrays([own.labels[name] for own in read]) for name in (*LABELS, "defect")}
    cells = [own.cells for own in read if own.cells is not None]
    arrays = {
        "pixels": moved_together(bundle.memory, [own.pixels for own in read]) if read else None,
        "cells": np.concatenate(cells) if cells else None,
    }
    return one_row(
        READ,
        {name: list_of(values) for name, values in columns.items()}
        | {name: binary_of(array) for name, array in arrays.items()},
    )


def _together(arrays: list[NDArray[Any]], dtype: pa.DataType) -> pa.Array:
    return pa.array(np.concatenate(arrays), dtype) if arrays else pa.array([], dtype)


def _part_tiles(part: ImagePart, tiles: TileArrays, cell: int) -> _PartTiles:
    cells = None if tiles.valid is None else valid_cells(tiles.valid, cell)
    kept = np.arange(len(tiles.pixels)) if cells is None else np.flatnonzero(cells.any(axis=(1, 2)))
    pixels = tiles.pixels if len(kept) == len(tiles.pixels) else tiles.pixels[kept]
    return _PartTiles(
        kept.astype(np.int32),
        pixels,
        None if cells is None else cells[kept],
        tiles.valid_fraction[kept].astype(np.float32),
        {} if tiles.classes is None else _labels(part, tiles, pixels, kept),
    )


def _labels(
    part: ImagePart, tiles: TileArrays, pixels: NDArray[np.uint8], kept: NDArray[np.int64]
) -> dict[str, pa.Array]:
    assert tiles.classes is not None
    mean, p90 = redness(pixels)
    columns = (tiles.anomalous_fraction[kept].astype(np.float32), mean, p90)
    return {
        **{name: pa.array(column, pa.float32()) for name, column in zip(LABELS, columns, strict=True)},
        "defect": _defects(tiles.classes[kept], part.source.label),
    }


def _defects(classes: NDArray[np.uint8], label: str | None) -> pa.Array:
    """The defect of each tile: that of its image, or the most frequent class id in its mask; null if there is none.
    classes: uint8 (n, t, t).
    """
    n = len(classes)
    tile = np.arange(n, dtype=np.int64)[:, None] * 256
    counts = np.bincount((tile + classes.reshape(n, -1)).ravel(), minlength=256 * n).reshape(n, 256)[:, 1:]
    is_normal = pa.array(~counts.any(axis=1))
    name = pa.array(counts.argmax(axis=1) + 1).cast(pa.string()) if label is None else pa.repeat(label, n)
    return pc.if_else(is_normal, pa.scalar(None, pa.string()), name)
