"""How a device works on tiles: a CPU on a batch with each core; a GPU on one batch after the other, while the next is
on its way and the results of the one before come back.

Tiles are uint8 (n, t, t, 3), and their valid cells bool (n, h, w) or None. All batches of a runner have one shape, so
that a tile has the same score whatever else is in its batch; what is lacking repeats the last tile.
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

# Of <malloc.h>, with sizes that hold the activations of a tile.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES, HEAP, LARGEST_KEPT = 512 * 2**20, 64 * 2**20, 32 * 2**20


class Runner(Protocol):
    """Works on tiles, on one device, for several threads at a time."""

    def run(self, pixels: Pixels | Tensor, valid: Cells | None) -> Arrays:
        """What `work` makes of some tiles: arrays with a row for each."""

    def close(self) -> None:
        """End its threads, when no caller waits."""


class Cores:
    """A thread for each core, and each works on a batch of its own.

    Cores that share a batch meet after every layer, so that all wait for the one that a reader of images has pushed
    aside; and the activations of one tile stay in the cache, which those of sixteen do not. `torch.get_num_threads()`
    says how many cores there are to use.
    """

    def __init__(self, work: Work, batch: int) -> None:
        _keep_freed_memory()
        self._work, self._batch = work, batch
        cores = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(cores, "scorer", initializer=_take_one_core)
        all_there = threading.Barrier(cores)
        list(self._threads.map(lambda _: all_there.wait(), range(cores)))
        torch.set_num_threads(cores)  # for threads begun later: what those of the pool set was also the default

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
    """The runner of a device, which does `work` on batches of so many tiles."""
    return Gpu(work, batch, device) if device.type == "cuda" else Cores(work, batch)


def _take_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes the default, which will be another, when it is first asked


def _keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tile. It would return activations to the system and fetch them again
    page by page, for a tenth of the time of a tile. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TOP_PAD, HEAP)  # so much is asked for at once; with it the heaps of threads are kept, too
