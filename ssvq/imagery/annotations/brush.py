"""Run lengths of Label Studio's brush: the bit stream of thi.ng's rle-pack, which its editor writes.

    32 bits   number of words; 5 bits: size of a word, less 1; 4 x 4 bits: four sizes of lengths, less 1
    packets   1 bit: whether one word is repeated, or each is given; 2 bits: which size its length has; the length, less
              1; the word or words

The words are the bytes of a picture in red, green, blue and alpha, row after row. A pixel is painted where its alpha is
over 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssvq.imagery.runs import join_runs, lengths_of

CHANNELS = 4
WORD, SIZES = 8, (3, 4, 8, 16)  # bits, as Label Studio's own converter writes them
MOST_PIXELS = (2**32 - 1) // CHANNELS
"""Of a picture whose bytes can be counted in 32 bits."""


class _Bits:
    """A stream of bits, highest bit of a byte first. Raises ValueError at its end."""

    def __init__(self, data: Sequence[int]) -> None:
        try:
            self._bits = np.unpackbits(np.array(data, np.uint8))
        except (OverflowError, TypeError, ValueError):
            raise ValueError("run lengths are not bytes") from None
        self._at = 0

    def take(self, number: int) -> NDArray[np.uint8]:
        """The next bits."""
        taken = self._bits[self._at : self._at + number]
        self._at += number
        if len(taken) < number:
            raise ValueError("run lengths are truncated")
        return taken

    def number(self, size: int) -> int:
        """The next number."""
        value = 0
        for bit in self.take(size).tolist():
            value = value << 1 | bit
        return value


def decode_brush(data: Sequence[int], width: int, height: int) -> NDArray[np.int64]:
    """Run lengths along the rows, unpainted pixels first.

    Raises ValueError for damaged bytes, and for those of a picture of another size.
    """
    bits = _Bits(data)
    words, word = bits.number(32), bits.number(5) + 1
    sizes = [bits.number(4) + 1 for _ in range(4)]
    if words != CHANNELS * width * height:
        raise ValueError(f"run lengths are of {words // CHANNELS} pixels and not of {width}x{height}")
    lengths: list[NDArray[np.int64]] = []
    values: list[NDArray[np.bool_]] = []
    at = 0
    while at < words:
        repeats = bits.number(1)
        stop = at + 1 + bits.number(sizes[bits.number(2)])
        if stop > words:
            raise ValueError("run lengths exceed the picture")
        pixels = stop // CHANNELS - at // CHANNELS  # whose alpha, the last of their four words, is among these
        if repeats:
            lengths.append(np.array([pixels]))
            values.append(np.array([bits.number(word) > 0]))
        else:
            is_over_0: NDArray[np.bool_] = bits.take((stop - at) * word).reshape(-1, word) > 0
            alpha = np.logical_or.reduce(is_over_0, axis=1)[(CHANNELS - 1 - at) % CHANNELS :: CHANNELS]
            runs = lengths_of(alpha) if len(alpha) else np.zeros(0, np.int64)
            lengths.append(runs)
            values.append(np.arange(len(runs)) % 2 == 1)
        at = stop
    return join_runs(np.concatenate(lengths), np.concatenate(values))


def encode_brush(lengths: Sequence[int]) -> list[int]:
    """Encode a picture whose second, fourth, ... run of pixels, along the rows, is painted white."""
    words = CHANNELS * sum(lengths)
    parts = [f"{words:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for number, length in enumerate(lengths):
        value = f"{255 * (number % 2):08b}"
        left = CHANNELS * length
        while left:
            size = next((size for size in SIZES if left <= 2**size), SIZES[-1])
            step = min(left, 2**size)
            parts.append(f"1{SIZES.index(size):02b}{step - 1:0{size}b}{value}")
            left -= step
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
