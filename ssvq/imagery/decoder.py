"""Reading in a child process, which a hostile or damaged image may crash, hang or fill with memory: that image fails,
after a second try, and the rest goes on. No `except` catches a segmentation fault or the kernel's OOM killer.

Pixels come back as anonymous shared memory, one piece for a part, so that they are not copied between processes.
"""

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import groupby
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle
from typing import Any

from ssvq import storage
from ssvq.config import ReadLimits
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.decoding import GO_ON, SharedTiles
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart

TRIES = 2
CHILD = "from ssvq.imagery.decoding import main; main()"


@cache
def decoder(limits: ReadLimits) -> "Decoder":
    """The one decoder of this process; its child ends with the process."""
    return Decoder(limits)


class _DiedError(Exception):
    """The child crashed, or was ended for taking too long; the message says which."""


class Decoder:
    """A child process that reads images, started when it is needed, and again when it died."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection

    def inspect(self, source: SourceImage) -> ImageHeader:
        """As `units.inspect`. Raises ImageError (stage `read`) also for an image that twice crashes, hangs or
        overruns what decodes it.
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
        """As `units.read_unit`. A part that crashes, hangs or overruns what decodes it is tried once more; then it
        and the rest of its image fail.
        """
        for _, group in groupby(unit, key=lambda part: part.source):
            parts = list(group)
            tries = 0
            while parts:
                try:
                    self._send(parts)
                    while parts:
                        result = self._receive(parts[0].source)
                        if len(parts) > 1:
                            with suppress(OSError):  # it died: the next answer will not come
                                self._pipe.send(GO_ON)  # the child reads the next part while this one is used
                        yield parts[0], result
                        parts, tries = parts[1:], 0
                except _DiedError as death:
                    tries += 1
                    if tries == TRIES:
                        yield from ((part, _failure(death)) for part in parts)
                        parts = []
                except GeneratorExit:  # nobody reads what the child still sends
                    self.close()
                    raise

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._pipe.close()
            self._child.kill()
            self._child.wait()
            self._child = None

    def _send(self, request: SourceImage | list[ImagePart]) -> None:
        try:
            if self._child is not None:
                self._pipe.send(request)
                return
        except OSError:  # it was killed while it had nothing to do, for which this image is not to blame
            self.close()
        self._start()
        self._pipe.send(request)

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            limits = (self.limits.seconds + storage.timeout() + 30, self.limits.memory)
            self._child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(theirs.fileno()), *map(str, limits)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    # The modules that this process sees, also where a job has brought its own.
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # MiB of decoded blocks. GDAL's default is a share of the machine, which may be over the limit.
                    "GDAL_CACHEMAX": str(self.limits.memory // 4),
                },
            )

    def _receive(self, source: SourceImage) -> Any:
        # An outage of S3 is waited out, for which the image is not to blame.
        outage = storage.timeout() if storage.is_remote(source.uri) else 0
        try:
            if not self._pipe.poll(self.limits.seconds + outage):
                self.close()
                raise _DiedError(f"decoding took over {self.limits.seconds:g} s (--read.seconds)")
            answer = self._pipe.recv()
            return self._mapped(answer) if isinstance(answer, SharedTiles) else answer
        except (EOFError, ConnectionError):
            raise _DiedError(self._cause()) from None

    def _mapped(self, shared: SharedTiles) -> TileArrays:
        handle = recv_handle(self._pipe)
        try:
            return shared.arrays(mmap.mmap(handle, shared.size, prot=mmap.PROT_READ))
        finally:
            os.close(handle)

    def _cause(self) -> str:
        code = self._child.wait() if self._child else 0
        self.close()
        if code == -signal.SIGKILL:
            return "decoding was killed (out of memory?)"
        return f"decoding crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _failure(death: _DiedError) -> ImageError:
    return ImageError("read", f"{death}, {TRIES} times")
