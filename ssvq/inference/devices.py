"""Runs a model over tiles on a device.

A CPU works on one batch per core. A GPU works on one batch while the next is copied to it and the results of the last
come back. Tiles are uint8 (n, t, t, 3), and their valid cells bool (n, h, w) or None. All batches of a runner have one
shape, so that a tile's score does not depend on the rest of its batch; missing tiles repeat the last one.
"""

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssvq.inference.gpu import Arrays, Cells, Gpu, Pixels, Results, Work, _Scalar, tensor_of

# From <malloc.h>, with sizes that hold the activations of a tile.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES, HEAP, LARGEST_KEPT = 512 * 2**20, 64 * 2**20, 32 * 2**20


class Runner(Protocol):
    """Works on tiles on one device, for several threads at a time."""

    def run(self, pixels: Pixels | Tensor, valid: Cells | None) -> Arrays:
        """The results of `work` on some tiles: arrays with a row for each."""

    def close(self) -> None:
        """End its threads. Call it when no caller waits."""


class Cores:
    """One thread for each core, each with a batch of its own.

    Cores that share a batch synchronise after every layer and wait for the slowest, which a reader of images may have
    displaced. Also, the activations of one tile stay in the cache, those of sixteen do not. `torch.get_num_threads()`
    is the number of cores to use.
    """

    def __init__(self, work: Work, batch: int) -> None:
        _keep_freed_memory()
        self._work, self._batch = work, batch
        cores = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(cores, "scorer", initializer=_take_one_core)
        all_there = threading.Barrier(cores)
        list(self._threads.map(lambda _: all_there.wait(), range(cores)))
        torch.set_num_threads(cores)  # for threads that start later: the pool's threads also changed the default

    def run(self, pixels: Pixels | Tensor, valid: Cells | None) -> Arrays:
        """See `Runner`."""
        if isinstance(pixels, Tensor):
            pixels = pixels.numpy()
        starts = range(0, len(pixels), self._batch)
        batches = list(self._threads.map(lambda start: self._one(pixels, valid, start), starts))
        return tuple(
            None if column[0] is None else torch.cat(column)[: len(pixels)].numpy()
            for column in zip(*batches, strict=True)
        )

    def close(self) -> None:
        """See `Runner`."""
        self._threads.shutdown()

    def _one(self, pixels: Pixels, valid: Cells | None, start: int) -> Results:
        rows = slice(start, start + self._batch)
        cells = None if valid is None else tensor_of(self._filled(valid[rows]))
        return self._work(tensor_of(self._filled(pixels[rows])), cells)

    def _filled(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        missing = self._batch - len(array)
        return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def runner_for(device: torch.device, work: Work, batch: int) -> Runner:
    """The runner of a device, which applies `work` to batches of this many tiles."""
    return Gpu(work, batch, device) if device.type == "cuda" else Cores(work, batch)


def _take_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes the default, which is about to change, at its first use


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tile.

    Otherwise it returns activations to the system and gets them again page by page, which takes a tenth of a tile's
    time. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TOP_PAD, HEAP)  # allocate this much at once; then the heaps of threads are kept too
