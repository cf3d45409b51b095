"""The child process of `ssvq.imagery.decoder`: reads on request, within limits of memory and time.

Its arguments: the handle of the connection, seconds until it ends itself, MiB of memory. A request is a SourceImage,
answered by its ImageHeader, or a Reading: parts in bundles, each part answered by SharedTiles. Before each bundle the
child waits for the ArenaRoom of its tiles, so that it is never more than one bundle ahead. An ImageError can replace
any answer.
"""

import faulthandler
import mmap
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import numpy as np
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.arena import Layout, SharedTiles
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, inspect, read_unit


@dataclass(frozen=True)
class Reading:
    """A request for the tiles of parts, in bundles with an arena each."""

    bundles: list[list[ImagePart]]


@dataclass(frozen=True)
class ArenaRoom:
    """The room for the tiles of the next bundle. The handle of an arena follows if it `is_new` to the child."""

    number: int
    size: int
    layout: Layout
    is_new: bool


def main() -> None:
    """Answer requests until the other side is gone."""
    handle, seconds, memory_mib = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    # Private memory alone: memory shared with the reader and mapped files do not count.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mib * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(handle) as pipe, suppress(EOFError, ConnectionError):
        child = _Child(pipe, seconds, memory_mib)
        while True:
            request = pipe.recv()
            if isinstance(request, Reading):
                child.read(request)
            else:
                child.inspect(request)


@dataclass
class _Child:
    pipe: Connection
    seconds: float
    memory_mib: int
    arenas: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    memory: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    layout: Layout = field(default_factory=lambda: Layout(0))

    def inspect(self, source: SourceImage) -> None:
        """Send the header of an image."""
        self._start_clock()
        answer: ImageHeader | ImageError
        try:
            answer = inspect(source)
        except ImageError as error:
            answer = error
        except MemoryError:
            answer = self._too_large()
        self._stop_clock()
        self.pipe.send(answer)

    def read(self, request: Reading) -> None:
        """Send the tiles of each part."""
        firsts = {id(bundle[0]) for bundle in request.bundles}
        parts = [part for bundle in request.bundles for part in bundle]
        for _, group in groupby(parts, key=lambda part: part.source):
            of_image = list(group)
            results = self._results(of_image)
            for part in of_image:
                if id(part) in firsts:
                    self._enter_arena()
                self.pipe.send(self._next(results))

    def _results(self, parts: list[ImagePart]) -> Iterator[TileArrays | ImageError]:
        """The results of the parts of one image. If the memory does not suffice, all remaining parts fail."""
        done = 0
        try:
            for _, result in read_unit(parts, self._allocate):
                done += 1
                yield result
        except MemoryError:
            yield from [self._too_large()] * (len(parts) - done)

    def _next(self, results: Iterator[TileArrays | ImageError]) -> SharedTiles | ImageError:
        self._start_clock()
        started, before = time.perf_counter(), replace(self.layout)
        result = next(results)
        self._stop_clock()
        if isinstance(result, ImageError):
            self.layout = before  # the reader, which gets no tiles, continues here too
            return result
        n, height, width, channels = result.pixels.shape
        seconds = time.perf_counter() - started
        shape = (n, height, width, channels)
        return SharedTiles(shape, result.valid is not None, result.classes is not None, result.area, seconds)

    def _enter_arena(self) -> None:
        room: ArenaRoom = self.pipe.recv()
        if room.is_new:
            handle = recv_handle(self.pipe)
            # The reader frees arenas that are too small.
            self.arenas = {number: memory for number, memory in self.arenas.items() if len(memory) >= room.size}
            self.arenas[room.number] = np.frombuffer(mmap.mmap(handle, room.size), np.uint8)
            os.close(handle)
        self.memory, self.layout = self.arenas[room.number], room.layout

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        offset = self.layout.place(shape)
        return self.memory[offset : offset + prod(shape)].reshape(shape)

    def _too_large(self) -> ImageError:
        return ImageError("read", f"cannot be read in {self.memory_mib} MiB of memory (--read.memory)")

    def _start_clock(self) -> None:
        # The other side ends a hanging child. If it is gone, only this does.
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def _stop_clock(self) -> None:
        faulthandler.cancel_dump_traceback_later()
