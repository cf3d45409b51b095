"""How batches of tiles are worked on: on a CPU one by each core, on a GPU one after the other, the next on its way.

Both are a `map` over batches. A batch is a pair of arrays: pixels uint8 (n, t, t, 3), and valid cells bool (n, h, w) or
None.
"""

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Batch = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]
Tensors = tuple[Tensor, Tensor | None]
Result = TypeVar("Result")
Work = Callable[[Tensor, Tensor | None], Result]

# Of <malloc.h>, with sizes that hold the activations of a tile.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES, HEAP, LARGEST_KEPT = 512 * 2**20, 64 * 2**20, 32 * 2**20


class Runner(Protocol):
    """Works on batches, on one device."""

    def map(self, work: Work[Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """What `work` makes of each batch on the device, in order."""


class Cores:
    """A thread for each core, and each works on a batch of its own.

    Cores that share a batch meet after every layer, so that all wait for the one that a reader of images has pushed
    aside; and the activations of one tile stay in the cache, which those of sixteen do not. `torch.get_num_threads()`
    says how many cores there are to use.
    """

    def __init__(self) -> None:
        _keep_freed_memory()
        cores = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(cores, "scorer", initializer=_take_one_core)
        all_there = Barrier(cores)
        list(self._threads.map(lambda _: all_there.wait(), range(cores)))
        torch.set_num_threads(cores)  # for threads begun later: what those of the pool set was also the default

    def map(self, work: Work[Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """See `Runner`."""
        return self._threads.map(lambda batch: work(*_tensors(batch)), batches)


class Gpu:
    """Copies a batch from pinned memory on a stream of its own while the batch before it is computed.

    Nothing here waits for the GPU: results are on the device, and who brings them back waits once for many.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies = torch.cuda.Stream(device)

    def map(self, work: Work[Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """See `Runner`."""
        coming: tuple[Tensors, torch.cuda.Event] | None = None
        for batch in batches:
            ready, coming = coming, self._send(batch)
            if ready is not None:
                yield work(*self._receive(*ready))
        if coming is not None:
            yield work(*self._receive(*coming))

    def _send(self, batch: Batch) -> tuple[Tensors, torch.cuda.Event]:
        """Begin to copy a batch; the event tells when it is there."""
        pixels, valid = _tensors(batch)
        with torch.cuda.stream(self._copies):
            sent = self._copy(pixels), None if valid is None else self._copy(valid)
            return sent, self._copies.record_event()

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _receive(self, tensors: Tensors, copied: torch.cuda.Event) -> Tensors:
        """Let the computing stream wait for this copy, and not for the one behind it."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(copied)
        for tensor in tensors:
            if tensor is not None:
                tensor.record_stream(computing)  # else its memory could be given to a later copy too soon
        return tensors


def runner_for(device: torch.device) -> Runner:
    """The runner of a device."""
    return Gpu(device) if device.type == "cuda" else Cores()


def _tensors(batch: Batch) -> Tensors:
    """A batch as tensors that share its memory; of a read-only one, as Ray Data gives them, a copy."""
    pixels, valid = batch
    return _tensor(pixels), None if valid is None else _tensor(valid)


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(array, requirements="W"))


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
