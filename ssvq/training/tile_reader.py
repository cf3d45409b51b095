"""Tiles of the cache, read from memory maps: a crop touches the bytes of a crop.

Of a cache on S3 each node copies the files that it needs to its own disk, once for all of its processes.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.io import storage
from ssvq.training.tile_cache import TileRef, bytes_of

OPEN_FILES = 512  # that a process has mapped at a time
COPIES = "ssvq-tiles"  # folder of the copies, within the node's temporary folder
SHARE_OF_DISK = 0.5  # of what is free and what copies take, that they may take

Tiles = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def read_tile(folder: str, tile: TileRef, tile_size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One tile of the cache: pixels uint8 (t, t, 3), which are not in memory before they are looked at, and anomalous
    pixels bool (t, t).
    """
    return tile_pixels(folder, tile, tile_size), crop_of_mask(folder, tile, tile_size, 0, 0, tile_size)


def tile_pixels(folder: str, tile: TileRef, tile_size: int) -> NDArray[np.uint8]:
    """Pixels of a tile, uint8 (t, t, 3), a view of the file."""
    pixels: NDArray[np.uint8] = _open(folder, tile.file, tile_size)[tile.batch][0][tile.row]
    return pixels


def crop_of_mask(folder: str, tile: TileRef, tile_size: int, y: int, x: int, size: int) -> NDArray[np.bool_]:
    """Anomalous pixels of a square of a tile, bool (size, size), cut off where the tile ends."""
    bits = _open(folder, tile.file, tile_size)[tile.batch][1][tile.row]
    first = x // 8
    rows = bits[y : y + size, first : bytes_of(min(x + size, tile_size))]
    width = min(size, tile_size - x)
    return np.unpackbits(rows, axis=1)[:, x - 8 * first : x - 8 * first + width].view(np.bool_)


@lru_cache(maxsize=OPEN_FILES)
def _open(folder: str, file: str, tile_size: int) -> list[Tiles]:
    """Pixels (n, t, t, 3) and bits of masks (n, t, bytes) of each batch of a file."""
    address = storage.join(folder, file)
    path = local_copy(address) if storage.is_remote(address) else address
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [_arrays(reader.get_batch(number), tile_size) for number in range(reader.num_record_batches)]


def _arrays(batch: pa.RecordBatch, size: int) -> Tiles:
    pixels, bits = (np.frombuffer(column.buffers()[1], np.uint8) for column in batch.columns)
    n = len(batch)
    return (
        pixels[: n * 3 * size**2].reshape(n, size, size, 3),
        bits[: n * size * bytes_of(size)].reshape(n, size, bytes_of(size)),
    )


def local_copy(address: str) -> Path:
    """The copy of a file of S3 on this node's disk, made unless it is there. The files that were not used for longest
    make room for it.

    Raises OSError when the disk has no room for it.
    """
    folder = Path(tempfile.gettempdir()) / f"{COPIES}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / hashlib.sha256(address.encode()).hexdigest()
    if not target.exists():
        with _locked(folder / ".lock"):
            if not target.exists():  # no other process has copied it meanwhile
                data = storage.read_bytes(address)
                _make_room(folder, len(data))
                unfinished = target.with_suffix(".part")
                unfinished.write_bytes(data)
                unfinished.replace(target)
    os.utime(target)
    return target


def _make_room(folder: Path, size: int) -> None:
    """Remove copies, the longest unused first, until one more of this size is within their share of the disk. A process
    that has one mapped keeps what it has.
    """
    copies = sorted((path for path in folder.iterdir() if path.name != ".lock"), key=lambda path: path.stat().st_mtime)
    taken = sum(path.stat().st_size for path in copies)
    disk = os.statvfs(folder)
    allowed = SHARE_OF_DISK * (disk.f_bavail * disk.f_frsize + taken)
    if size > allowed:
        raise OSError(f"{folder} has no room for a tile cache's file of {size / 1e6:.0f} MB: free some of the disk")
    for path in copies:
        if taken + size <= allowed:
            return
        taken -= path.stat().st_size
        path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of the node at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
