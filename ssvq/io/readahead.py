"""The read-ahead of an open file on S3: what it keeps, and how much more than requested it fetches.

fsspec's caches each suit one way of reading: with large blocks, a window of a COG fetches tens of MiB for nothing; with
small ones, a JPEG takes hundreds of requests.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fsspec.caching import BaseCache

KIB, MIB = 2**10, 2**20
FIRST_AHEAD = 64 * KIB  # holds the header of most images, at no extra time for the request
LARGEST_AHEAD = 8 * MIB
GROWTH = 2
KEPT = 32 * MIB


@dataclass(frozen=True)
class _Extent:
    """Fetched bytes, and how far ahead of the reader the fetch was."""

    start: int
    data: bytes
    ahead: int

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


class ReadAhead(BaseCache):
    """A read elsewhere fetches what is requested, at least 64 KiB. A read that continues a fetch doubles the
    distance each time, or fetches 8 MiB at once if the file is read sequentially.
    """

    name = "ssvq-readahead"

    def __init__(self, blocksize: int, fetcher: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self.sequential = False
        self._extents: OrderedDict[int, _Extent] = OrderedDict()  # by start; the one used last is the last

    def begin(self, data: bytes) -> None:
        """Take the first bytes of the file, which are already fetched."""
        self._extents[0] = _Extent(0, data, FIRST_AHEAD)

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        position, stop = start or 0, self.size if stop is None else min(stop, self.size)
        pieces = []
        while position < stop:
            extent = self._holding(position) or self._load(position, stop)
            piece = extent.data[position - extent.start : stop - extent.start]
            if not piece:
                raise OSError(f"byte {position} of {self.size} is not there")
            pieces.append(piece)
            position += len(piece)
        return b"".join(pieces)

    def _holding(self, position: int) -> _Extent | None:
        for extent in reversed(self._extents.values()):
            if extent.start <= position < extent.stop:
                self._extents.move_to_end(extent.start)
                self.hit_count += 1
                return extent
        return None

    def _load(self, start: int, stop: int) -> _Extent:
        before = next((extent for extent in self._extents.values() if extent.stop == start), None)
        after = min((extent.start for extent in self._extents.values() if extent.start > start), default=self.size)
        ahead = FIRST_AHEAD
        if before is not None:
            ahead = LARGEST_AHEAD if self.sequential else min(before.ahead * GROWTH, LARGEST_AHEAD)
        stop = min(max(stop, start + ahead), after)
        extent = self._extents[start] = _Extent(start, self.fetcher(start, stop), ahead)
        self.miss_count += 1
        self.total_requested_bytes += stop - start
        while len(self._extents) > 1 and sum(len(kept.data) for kept in self._extents.values()) > KEPT:
            self._extents.popitem(last=False)
        return extent
