"""The child process of `ssvq.imagery.decoder`: reads what it is asked for, within limits of memory and time.

Its arguments: the handle of the connection, seconds until it ends itself, MiB of memory. A request is a SourceImage,
answered by its ImageHeader, or a list of parts of one image, each answered by SharedTiles and a handle of their memory;
after each but the last the child waits for GO_ON, so that it is never more than one part ahead. An ImageError stands
in for any answer.
"""

import faulthandler
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

import numpy as np
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, inspect, read_unit

GO_ON = "go on"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class SharedTiles:
    """Where the arrays of TileArrays lie in a piece of shared memory: one after the other, None for one that is not."""

    pixels: Shape
    valid: Shape | None
    classes: Shape | None
    area: int

    @property
    def size(self) -> int:
        """Bytes of all arrays; each has one byte an element."""
        return sum(prod(shape) for shape in (self.pixels, self.valid, self.classes) if shape is not None)

    def arrays(self, memory: mmap.mmap) -> TileArrays:
        """The arrays in a piece of memory, which lives as long as they do."""
        flat = np.frombuffer(memory, np.uint8)
        planes: list[NDArray[np.uint8] | None] = []
        for shape in (self.pixels, self.valid, self.classes):
            size = prod(shape) if shape is not None else 0
            planes.append(flat[:size].reshape(shape) if shape is not None else None)
            flat = flat[size:]
        pixels, valid, classes = planes
        assert pixels is not None
        return TileArrays(pixels, None if valid is None else valid.view(np.bool_), classes, self.area)


def main() -> None:
    """Answer requests until the other side is gone."""
    handle, seconds, memory_mib = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    # Private memory alone: what is shared with the reader, and files that are mapped, are not counted.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mib * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(handle) as pipe, suppress(EOFError, ConnectionError):
        child = _Child(pipe, seconds, memory_mib)
        while True:
            child.answer(pipe.recv())


@dataclass(frozen=True)
class _Child:
    pipe: Connection
    seconds: float
    memory_mib: int

    def answer(self, request: SourceImage | list[ImagePart]) -> None:
        left = 1 if isinstance(request, SourceImage) else len(request)
        self._begin()
        try:
            for answer in _answers(request):
                left -= 1
                self._send(answer, left)
        except MemoryError:
            while left:
                left -= 1
                message = f"cannot be read in {self.memory_mib} MiB of memory (--read.memory)"
                self._send(ImageError("read", message), left)

    def _begin(self) -> None:
        # The other side ends a child that hangs. If it is gone, nobody does but this.
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def _send(self, answer: ImageHeader | TileArrays | ImageError, left: int) -> None:
        faulthandler.cancel_dump_traceback_later()
        if isinstance(answer, TileArrays):
            _share(self.pipe, answer)
        else:
            self.pipe.send(answer)
        if left:
            self.pipe.recv()  # GO_ON, whenever what was sent is used
            self._begin()


def _answers(request: SourceImage | list[ImagePart]) -> Iterator[ImageHeader | TileArrays | ImageError]:
    if isinstance(request, list):
        yield from (result for _, result in read_unit(request))
        return
    try:
        yield inspect(request)
    except ImageError as error:
        yield error


def _share(pipe: Connection, tiles: TileArrays) -> None:
    planes = [tiles.pixels, tiles.valid, tiles.classes]
    _, valid, classes = (None if plane is None else plane.shape for plane in planes)
    shared = SharedTiles(tiles.pixels.shape, valid, classes, tiles.area)
    handle = os.memfd_create("tiles")
    try:
        # Written and not mapped: pages that are mapped are first filled with zeros, one fault at a time.
        with open(handle, "wb", closefd=False) as memory:
            for plane in planes:
                if plane is not None:
                    memory.write(np.ascontiguousarray(plane).data.cast("B"))
        pipe.send(shared)
        send_handle(pipe, handle, None)
    finally:
        os.close(handle)
