"""Runs a model over tiles on a GPU: one batch at a time, while the next is copied to it and the results of the last
come back.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

Cells = NDArray[np.bool_]

Results = tuple[Tensor | None, ...]
"""Results of a batch on its device: a row for each tile, or None if the method has none."""

Arrays = tuple[NDArray[Any] | None, ...]

Work = Callable[[Tensor, Tensor | None], Results]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass
class _Request:
    """Tiles that a thread waits for. The first `taken` are in a batch; the results of `left` are still missing."""

    pixels: Pixels | Tensor
    valid: Cells | None
    left: int
    taken: int = 0
    arrays: list[NDArray[Any] | None] | None = None
    done: "Future[Arrays]" = field(default_factory=Future)

    def give(self, start: int, columns: list[NDArray[Any] | None]) -> None:
        """Take results of tiles from `start` on."""
        number = next(len(column) for column in columns if column is not None)
        if self.arrays is None:
            n = len(self.pixels)
            self.arrays = [None if c is None else np.empty((n, *c.shape[1:]), c.dtype) for c in columns]
        for array, column in zip(self.arrays, columns, strict=True):
            if array is not None and column is not None:
                array[start : start + number] = column
        self.left -= number
        if self.left == 0:
            self.done.set_result(tuple(self.arrays))


Kind = tuple[bool, bool]  # of tiles: whether they are on the device, and whether they have valid cells


def _kind(pixels: Pixels | Tensor, valid: object) -> Kind:
    return isinstance(pixels, Tensor), valid is not None


class _Slot:
    """Memory for one batch on its way to the device. It is pinned, so that a GPU fetches it by itself."""

    def __init__(
        self, pixels: tuple[int, ...], cells: tuple[int, ...] | None, pinned: bool, device: torch.device | None
    ) -> None:
        """`device`: where the pixels already are; None: in this machine's memory."""
        self.pixels = torch.empty(pixels, dtype=torch.uint8, pin_memory=pinned and device is None, device=device)
        self.cells = None if cells is None else torch.empty(cells, dtype=torch.bool, pin_memory=pinned)
        self.kind: Kind = device is not None, cells is not None
        self.filled = 0
        self.pieces: list[tuple[_Request, int, int]] = []  # whose tiles, from which on, how many

    def take(self, request: _Request) -> bool:
        """Copy tiles of a request as long as there is room. Returns whether that was the last of them."""
        number = min(len(self.pixels) - self.filled, len(request.pixels) - request.taken)
        rows, there = slice(request.taken, request.taken + number), slice(self.filled, self.filled + number)
        pixels = request.pixels[rows]
        self.pixels[there].copy_(pixels if isinstance(pixels, Tensor) else tensor_of(pixels))
        if self.cells is not None and request.valid is not None:
            self.cells[there].copy_(tensor_of(request.valid[rows]))
        self.pieces.append((request, request.taken, number))
        request.taken += number
        self.filled += number
        return request.taken == len(request.pixels)

    def complete(self) -> None:
        """Repeat the last tile in the remaining room."""
        for tensor in (self.pixels, self.cells):
            if tensor is not None and self.filled < len(tensor):
                tensor[self.filled :] = tensor[self.filled - 1]


class Gpu:
    """A thread that keeps a device busy.

    It copies tiles of all callers into pinned memory while the device works on the last batch, and hands out the
    results of the one before. It starts a batch that is not full only if the device is idle.
    """

    IN_FLIGHT = 2

    def __init__(self, work: Work, batch: int, device: torch.device) -> None:
        self._work, self._batch, self._device = work, batch, device
        self._cuda = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if self._cuda else None
        self._new: SimpleQueue[_Request | None] = SimpleQueue()
        self._waiting: dict[Kind, deque[_Request]] = defaultdict(deque)
        self._slots: dict[Kind, list[_Slot]] = defaultdict(list)
        self._filling: dict[Kind, _Slot | None] = {}
        self._starting: _Slot | None = None
        self._closed = False
        self._flying: deque[tuple[_Slot, Results, Any]] = deque()
        threading.Thread(target=self._loop, name="gpu", daemon=True).start()

    def run(self, pixels: Pixels | Tensor, valid: Cells | None) -> Arrays:
        """See `Runner`; pixels may already be on the device. Raises what the device raised."""
        request = _Request(pixels, valid, len(pixels))
        self._new.put(request)
        return request.done.result()

    def close(self) -> None:
        """See `Runner`."""
        self._new.put(None)

    def _loop(self) -> None:
        while not self._closed:
            try:
                self._step()
            except BaseException as error:  # noqa: BLE001 - each caller is told, in its own thread
                self._fail_all(error)

    def _step(self) -> None:
        self._take_new(wait=not self._flying and not any(self._waiting.values()) and not any(self._filling.values()))
        kind = self._fill()
        slot = None if kind is None else self._filling[kind]
        if slot is not None and (slot.filled == self._batch or not self._flying):
            if len(self._flying) == self.IN_FLIGHT:
                self._finish()
            assert kind is not None
            self._filling[kind], self._starting = None, slot
            self._start(slot)
            self._starting = None
        elif self._flying:
            self._finish()

    def _take_new(self, wait: bool) -> None:
        try:
            while True:
                request = self._new.get(block=wait)
                wait = False
                if request is None:
                    self._closed = True
                    return
                self._waiting[_kind(request.pixels, request.valid)].append(request)
        except Empty:
            return

    def _fill(self) -> Kind | None:
        """Fill a slot from waiting requests. Returns the kind of the fullest slot, None if no slot has a tile."""
        for kind, waiting in self._waiting.items():
            while waiting:
                slot = self._filling.get(kind) or self._free_slot(kind, waiting[0])
                self._filling[kind] = slot
                if slot.filled == self._batch:
                    break
                if slot.take(waiting[0]):
                    waiting.popleft()
        filled = {kind: slot.filled for kind, slot in self._filling.items() if slot is not None}
        return max(filled, key=filled.__getitem__, default=None)

    def _free_slot(self, kind: Kind, request: _Request) -> _Slot:
        if self._slots[kind]:
            slot = self._slots[kind].pop()
            slot.filled, slot.pieces = 0, []
            return slot
        cells = None if request.valid is None else (self._batch, *request.valid.shape[1:])
        device = request.pixels.device if isinstance(request.pixels, Tensor) else None
        return _Slot((self._batch, *request.pixels.shape[1:]), cells, self._cuda, device)

    def _start(self, slot: _Slot) -> None:
        """Copy a batch to the device, compute, and copy the results back. Nothing here waits for the device."""
        slot.complete()
        with self._on_copies():
            pixels = slot.pixels.to(self._device, non_blocking=True)
            cells = None if slot.cells is None else slot.cells.to(self._device, non_blocking=True)
        if self._copies is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._copies)
            for tensor in (pixels, cells):
                if tensor is not None:
                    tensor.record_stream(computing)  # otherwise its memory could go to a later copy too soon
        results = self._work(pixels, cells)
        if self._copies is None:
            self._flying.append((slot, results, None))
            return
        # Queued behind the computation, without waiting: the next batch starts meanwhile.
        back = tuple(None if result is None else _to_pinned(result) for result in results)
        event = torch.cuda.Event(blocking=True)  # a thread that waits for it frees its core
        event.record(torch.cuda.current_stream(self._device))
        self._flying.append((slot, back, event))

    def _on_copies(self) -> Any:
        return nullcontext() if self._copies is None else torch.cuda.stream(self._copies)

    def _finish(self) -> None:
        """Wait for the oldest batch and give its results to the callers."""
        slot, results, event = self._flying.popleft()
        if event is not None:
            event.synchronize()
        columns = [None if result is None else result.numpy() for result in results]
        at = 0
        for request, start, number in slot.pieces:
            request.give(start, [None if column is None else column[at : at + number] for column in columns])
            at += number
        self._slots[slot.kind].append(slot)

    def _fail_all(self, error: BaseException) -> None:
        requests = [request for waiting in self._waiting.values() for request in waiting]
        slots = [*self._filling.values(), self._starting, *(slot for slot, *_ in self._flying)]
        requests += [request for slot in slots if slot is not None for request, *_ in slot.pieces]
        for request in {id(request): request for request in requests}.values():
            if not request.done.done():
                request.done.set_exception(error)
        self._waiting.clear()
        self._filling.clear()
        self._starting = None
        self._flying.clear()


def _to_pinned(result: Tensor) -> Tensor:
    return torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(result, non_blocking=True)


def tensor_of(array: NDArray[np.generic]) -> Tensor:
    """A tensor that shares the memory of an array, to be read only."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


class _Writable:
    """A read-only array, such as Ray's blocks, in a form that torch takes without a warning or a copy."""

    def __init__(self, array: NDArray[np.generic]) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
