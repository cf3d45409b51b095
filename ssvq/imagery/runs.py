"""Masks as run lengths, and the compressed string that COCO keeps them in. Any window is read without the whole mask.

COCO's run lengths go down the columns of the image, those of CVAT and Label Studio along the rows; all begin with a run
of zeros. The string is that of COCO's maskApi. A character has six bits: five of the number, low ones first, and one
that says that more follow. From the fourth run on a number is the difference from the run two before. pycocotools reads
such strings too, but only as whole masks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FIRST_CHARACTER = 48
NUMBER_BITS, MORE_BIT, SIGN_BIT = 0x1F, 0x20, 0x10
MOST_CHARACTERS = 10  # of a number: 50 bits
DELTAS_FROM = 3


@dataclass(frozen=True)
class Runs:
    """A mask of `width` x `height` pixels whose first pixel is at `x` and `y` of the picture. `counts`: run lengths as
    COCO's string, down the columns, or along the rows where `by_rows`.
    """

    counts: str
    x: int
    y: int
    width: int
    height: int
    by_rows: bool = False

    @classmethod
    def of(cls, lengths: Iterable[int], box: tuple[int, int, int, int], *, by_rows: bool = False) -> "Runs":
        """Make runs from run lengths and x, y, width and height. Raises ValueError for lengths that do not cover the
        box.
        """
        runs = cls(encode_counts(lengths), *box, by_rows=by_rows)
        runs.check()
        return runs

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_], x: int = 0, y: int = 0, *, by_rows: bool = False) -> "Runs":
        """Make runs from a mask, bool (height, width), whose first pixel is at x and y of the picture."""
        height, width = mask.shape
        return cls.of(lengths_of(mask if by_rows else mask.T), (x, y, width, height), by_rows=by_rows)

    def check(self) -> None:
        """Raises ValueError for run lengths that are damaged or do not cover the mask."""
        lengths = self.lengths
        if (lengths < 0).any() or lengths.sum() != self.width * self.height:
            raise ValueError(f"run lengths cover {lengths.sum()} pixels of {self.width}x{self.height}")

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Lengths of the runs, zeros first. Raises ValueError if they are damaged."""
        return decode_counts(self.counts)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths)

    def area(self) -> int:
        """Pixels of the mask that are set."""
        return int(self.lengths[1::2].sum())

    def read(self, xs: NDArray[np.int64], ys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The mask at columns and rows of the picture, each ascending: bool (rows, cols), False around the mask."""
        found = np.zeros((len(ys), len(xs)), bool)
        cols = np.flatnonzero((xs >= self.x) & (xs < self.x + self.width))
        rows = np.flatnonzero((ys >= self.y) & (ys < self.y + self.height))
        if len(cols) and len(rows):
            inside_x, inside_y = xs[cols] - self.x, ys[rows] - self.y
            if self.by_rows:
                found[np.ix_(rows, cols)] = self._lines(inside_y, inside_x, self.width)
            else:
                found[np.ix_(rows, cols)] = self._lines(inside_x, inside_y, self.height).T
        return found

    def _lines(self, lines: NDArray[np.int64], places: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
        """Places, ascending, of lines of that length: bool (lines, places)."""
        start, stop = int(places[0]), int(places[-1]) + 1
        first, last = lines * length + start, lines * length + stop
        before, until = np.searchsorted(self._ends, first, "right"), np.searchsorted(self._ends, last, "left")
        # A pixel is set where an odd number of runs have ended before it; each end between turns those after it over.
        flips = np.zeros((len(lines), stop - start), np.uint8)
        flips[:, 0] = before & 1
        inside = until - before
        line = np.repeat(np.arange(len(lines)), inside)
        number = np.arange(inside.sum()) - np.repeat(np.cumsum(inside) - inside, inside) + np.repeat(before, inside)
        np.add.at(flips, (line, self._ends[number] - first[line]), 1)
        is_set: NDArray[np.uint8] = np.bitwise_xor.accumulate(flips & 1, axis=1)
        return is_set[:, places - start].astype(bool)


def lengths_of(lines: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Run lengths of a mask, line after line, zeros first."""
    flat = np.ascontiguousarray(lines).ravel()
    turns = np.flatnonzero(np.diff(flat, prepend=False, append=flat[-1:] ^ True))
    return np.diff(turns, prepend=0).astype(np.int64)


def lengths_within(
    mask: NDArray[np.bool_], place: tuple[int, int], size: tuple[int, int], *, by_rows: bool
) -> NDArray[np.int64]:
    """Run lengths of a picture of `size`, width and height, zeros first, in which a mask, bool (height, width), lies
    with its first pixel at `place`, x and y. The picture is never made.
    """
    lines, first = (mask, place[1]) if by_rows else (mask.T, place[0])
    begin, length = (place[0], size[0]) if by_rows else (place[1], size[1])
    padded = np.pad(lines, ((0, 0), (1, 1)))
    line, turn = np.nonzero(padded[:, 1:] != padded[:, :-1])
    turns, times = np.unique((first + line) * length + begin + turn, return_counts=True)
    turns = turns[times == 1]  # a run over the end of a line ends there, and begins again
    total = size[0] * size[1]
    ends = turns if len(turns) and turns[-1] == total else np.append(turns, total)
    return np.diff(ends, prepend=0).astype(np.int64)


def join_runs(lengths: NDArray[np.int64], values: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Run lengths, zeros first, from pieces with a length and a value each."""
    kept = lengths > 0
    lengths, values = lengths[kept], values[kept]
    if not len(lengths):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(values, prepend=not values[0]))
    joined = np.add.reduceat(lengths, starts)
    return np.concatenate([[0], joined]) if values[0] else joined


def encode_counts(lengths: Iterable[int]) -> str:
    """COCO's string of run lengths."""
    values = [int(length) for length in lengths]
    text = bytearray()
    for i, value in enumerate(values):
        left = value - values[i - 2] if i >= DELTAS_FROM else value
        while True:
            bits, left = left & NUMBER_BITS, left >> 5
            more = left != (-1 if bits & SIGN_BIT else 0)
            text.append(FIRST_CHARACTER + (bits | MORE_BIT if more else bits))
            if not more:
                break
    return text.decode()


def decode_counts(text: str) -> NDArray[np.int64]:
    """Run lengths from COCO's string, int64 (n,). Raises ValueError for a damaged string."""
    if not text:
        return np.zeros(0, np.int64)
    bits = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - FIRST_CHARACTER
    more = bits & MORE_BIT > 0
    if bits.min() < 0 or bits.max() > NUMBER_BITS | MORE_BIT or more[-1]:
        raise ValueError("the string of run lengths is damaged")
    starts = np.concatenate([[0], np.flatnonzero(~more)[:-1] + 1])
    sizes = np.diff(starts, append=len(bits))
    if sizes.max() > MOST_CHARACTERS:
        raise ValueError("the string of run lengths is damaged")
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, sizes))
    values = np.add.reduceat((bits & NUMBER_BITS) << shifts, starts)
    is_negative = bits[~more] & SIGN_BIT > 0
    values -= np.where(is_negative, np.int64(1) << 5 * sizes, 0)
    for first in (1, 2):  # every second number is a difference from the one before among these
        values[first::2] = np.cumsum(values[first::2])
    return values
