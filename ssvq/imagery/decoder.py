"""Reads images in a child process.

A hostile or damaged image may crash it, hang it or fill its memory. Then that image fails, after a second try, and the
rest goes on. No `except` catches a segmentation fault or the kernel's OOM killer. Tiles come back in shared memory (see
`ssvq.imagery.arena`), without a copy between processes.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.arena import Arena, ArenaPool, Layout, SharedTiles
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.decoding import ArenaRoom, Reading
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.settings import ReadLimits
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, bundles_of
from ssvq.io import storage

TRIES = 2
BUNDLES_AHEAD = 1
CHILD = "from ssvq.imagery.decoding import main; main()"


@cache
def decoder(limits: ReadLimits) -> "Decoder":
    """The decoder of this process. Its child ends with the process."""
    return Decoder(limits)


class _DiedError(Exception):
    """The child crashed or was ended after a timeout; the message says which."""


@dataclass
class DecodedBundle:
    """Parts with their results. Their pixels lie in a row in `memory`, a whole arena."""

    memory: NDArray[np.uint8]
    parts: list[tuple[ImagePart, TileArrays | ImageError]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Seconds of each part."""


class _Open:
    """A bundle that is being read: the parts that are left, and the results of the others."""

    def __init__(self, parts: list[ImagePart], pool: ArenaPool) -> None:
        self.left = list(parts)
        pixels = sum(len(part.block) * part.tiling.tile_size**2 for part in parts)
        self._layout, self._pool = Layout(pixels), pool
        self._arena: Arena | None = None
        self.done = DecodedBundle(np.empty(0, np.uint8))

    def room(self) -> tuple[Arena, Layout]:
        """The arena, and where the next part goes in it."""
        if self._arena is None:
            self._arena, self.done.memory = self._pool.take(self._layout.size)
        return self._arena, self._layout

    def add(self, answer: SharedTiles | ImageError) -> None:
        """Add the result of the next part."""
        result: TileArrays | ImageError
        if isinstance(answer, ImageError):
            result, seconds = answer, 0.0
        else:
            result, seconds = answer.arrays(self.done.memory, self._layout), answer.seconds
        self.done.parts.append((self.left.pop(0), result))
        self.done.seconds.append(seconds)


class Decoder:
    """A child process that reads images. It starts when it is needed, and again after it died."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection
        self._arenas = ArenaPool()
        self._known: set[int] = set()  # arenas that the child has

    def inspect(self, source: SourceImage) -> ImageHeader:
        """As `units.inspect`. Also raises ImageError (stage `read`) for an image that twice crashes, hangs or
        exceeds the decoder's memory.
        """
        for attempt in range(1, TRIES + 1):
            try:
                self._send(source)
                answer = self._receive(source)
                break
            except _DiedError as death:
                if attempt == TRIES:
                    answer = _failure(death)
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def read(self, unit: list[ImagePart]) -> Iterator[tuple[ImagePart, TileArrays | ImageError]]:
        """As `units.read_unit`; see `read_bundles`."""
        for bundle in self.read_bundles(unit):
            yield from bundle.parts

    def read_bundles(self, unit: list[ImagePart]) -> Iterator[DecodedBundle]:
        """Read a unit in bundles (`units.bundles_of`); the child reads one bundle ahead.

        A part that crashes, hangs or exceeds the child's memory is tried once more; then it and the rest of its image
        fail.
        """
        bundles = [_Open(parts, self._arenas) for parts in bundles_of(unit)]
        tries = 0
        while bundles:
            try:
                self._ask(bundles)
                while bundles:
                    while bundles[0].left:
                        bundles[0].add(self._receive(bundles[0].left[0].source))
                        tries = 0
                    if len(bundles) > 1 + BUNDLES_AHEAD:
                        self._give_arena(bundles[1 + BUNDLES_AHEAD])
                    yield bundles.pop(0).done
            except _DiedError as death:
                tries += 1
                if tries == TRIES:
                    _fail_image(bundles, _failure(death))
                    tries = 0
                while bundles and not bundles[0].left:
                    yield bundles.pop(0).done
            except GeneratorExit:
                if bundles:  # nobody will read what the child still sends
                    self.close()
                raise

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._pipe.close()
            self._child.kill()
            self._child.wait()
            self._child = None

    def _ask(self, bundles: list[_Open]) -> None:
        """Ask for the remaining parts of bundles."""
        self._send(Reading([bundle.left for bundle in bundles]))
        for bundle in bundles[: 1 + BUNDLES_AHEAD]:
            self._give_arena(bundle)

    def _give_arena(self, bundle: _Open) -> None:
        arena, layout = bundle.room()
        is_new = arena.number not in self._known
        try:
            self._pipe.send(ArenaRoom(arena.number, arena.size, layout, is_new))
            if is_new:
                send_handle(self._pipe, arena.handle, None)
                self._known.add(arena.number)
        except OSError:
            raise _DiedError(self._cause()) from None

    def _send(self, request: SourceImage | Reading) -> None:
        try:
            if self._child is not None:
                self._pipe.send(request)
                return
        except OSError:  # it was killed while idle, which is not this image's fault
            self.close()
        self._start()
        self._pipe.send(request)

    def _start(self) -> None:
        self._known.clear()
        self._pipe, theirs = Pipe()
        with theirs:
            limits = (self.limits.seconds + storage.timeout() + 30, self.limits.memory)
            self._child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(theirs.fileno()), *map(str, limits)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    # The same modules as in this process, also if a job has brought its own.
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # MiB of decoded blocks. GDAL's default, a share of the machine's memory, may exceed the limit.
                    "GDAL_CACHEMAX": str(self.limits.memory // 4),
                },
            )

    def _receive(self, source: SourceImage) -> Any:
        # Wait out an outage of S3, which is not the image's fault.
        outage = storage.longest_wait(source.uri)
        try:
            if not self._pipe.poll(self.limits.seconds + outage):
                self.close()
                raise _DiedError(f"decoding took over {self.limits.seconds:g} s (--read.seconds)")
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            raise _DiedError(self._cause()) from None

    def _cause(self) -> str:
        code = self._child.wait() if self._child else 0
        self.close()
        if code == -signal.SIGKILL:
            return "decoding was killed (out of memory?)"
        return f"decoding crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _fail_image(bundles: list[_Open], error: ImageError) -> None:
    """Fail the next part and the rest of its image."""
    source = bundles[0].left[0].source
    for bundle in bundles:
        while bundle.left and bundle.left[0].source == source:
            bundle.add(error)


def _failure(death: _DiedError) -> ImageError:
    return ImageError("read", f"{death}, {TRIES} times")
