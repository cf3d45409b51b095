"""Reads tiles of the cache from memory maps: a crop touches only its own bytes.

From a cache on S3, each node copies the files that it needs to its disk, once for all its processes.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.io import storage
from ssvq.io.copies import local_copy
from ssvq.training.tile_cache import TileRef, bytes_of

OPEN_FILES = 512  # files mapped by a process at a time

Tiles = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def read_tile(folder: str, tile: TileRef, tile_size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One tile of the cache: pixels uint8 (t, t, 3), which are read from disk when they are used, and anomalous
    pixels bool (t, t).
    """
    return tile_pixels(folder, tile, tile_size), crop_of_mask(folder, tile, tile_size, 0, 0, tile_size)


def tile_pixels(folder: str, tile: TileRef, tile_size: int) -> NDArray[np.uint8]:
    """Pixels of a tile, uint8 (t, t, 3), a view of the file."""
    pixels: NDArray[np.uint8] = _open(folder, tile.file, tile_size)[tile.batch][0][tile.row]
    return pixels


def crop_of_mask(folder: str, tile: TileRef, tile_size: int, y: int, x: int, size: int) -> NDArray[np.bool_]:
    """Anomalous pixels of a square of a tile, bool (size, size) or smaller at the tile's edge."""
    bits = _open(folder, tile.file, tile_size)[tile.batch][1][tile.row]
    first = x // 8
    rows = bits[y : y + size, first : bytes_of(min(x + size, tile_size))]
    width = min(size, tile_size - x)
    return np.unpackbits(rows, axis=1)[:, x - 8 * first : x - 8 * first + width].view(np.bool_)


@lru_cache(maxsize=OPEN_FILES)
def _open(folder: str, file: str, tile_size: int) -> list[Tiles]:
    """Pixels (n, t, t, 3) and bits of masks (n, t, bytes) of each batch of a file."""
    address = storage.join(folder, file)
    with pa.memory_map(str(local_copy(address))) as source:
        reader = pa.ipc.open_file(source)
        return [_arrays(reader.get_batch(number), tile_size) for number in range(reader.num_record_batches)]


def _arrays(batch: pa.RecordBatch, size: int) -> Tiles:
    pixels, bits = (np.frombuffer(column.buffers()[1], np.uint8) for column in batch.columns)
    n = len(batch)
    return (
        pixels[: n * 3 * size**2].reshape(n, size, size, 3),
        bits[: n * size * bytes_of(size)].reshape(n, size, bytes_of(size)),
    )
