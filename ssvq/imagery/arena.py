"""Shared memory that the decoding process fills with tiles, so that no pixel is copied between processes.

An arena holds the tiles of a bundle: parts of images that are read together. The pixels of all parts lie in a row;
planes (validity, classes) follow behind the room for pixels. The kernel fills new pages with zeros at first use, which
costs as much as a copy. So arenas are reused once nothing refers to them.
"""

import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

import numpy as np
from numpy.typing import NDArray

from ssvq.imagery.tiles import TileArrays

PIXEL_BYTES = 3
BYTES = PIXEL_BYTES + 2  # bytes of a pixel: colours, validity, class


@dataclass
class Layout:
    """Offsets in bytes of the next pixels and planes, in an arena with room for `capacity` pixels."""

    capacity: int
    pixels: int = 0
    planes: int = 0

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return BYTES * self.capacity

    def place(self, shape: tuple[int, ...]) -> int:
        """Place an array of this shape, and return its offset: pixels (n, t, t, 3), else a plane (n, t, t)."""
        if len(shape) == 4:
            offset = self.pixels
            self.pixels += prod(shape)
        else:
            offset = PIXEL_BYTES * self.capacity + self.planes
            self.planes += prod(shape)
        return offset


@dataclass(frozen=True)
class SharedTiles:
    """TileArrays in an arena: the shape of the pixels, which other arrays exist, the area of each tile, and the seconds
    of reading.

    The arrays follow those of the previous part.
    """

    shape: tuple[int, int, int, int]
    has_valid: bool
    has_classes: bool
    area: int
    seconds: float

    def arrays(self, memory: NDArray[np.uint8], layout: Layout) -> TileArrays:
        """The arrays in the memory of an arena; advances the layout behind them."""

        def array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
            offset = layout.place(shape)
            return memory[offset : offset + prod(shape)].reshape(shape)

        plane = self.shape[:3]
        pixels = array(self.shape)
        valid = array(plane).view(np.bool_) if self.has_valid else None
        return TileArrays(pixels, valid, array(plane) if self.has_classes else None, self.area)


class Arena:
    """A piece of anonymous shared memory; `handle` is its file descriptor."""

    _numbers = count()

    def __init__(self, size: int) -> None:
        self.number, self.size = next(self._numbers), size
        self.handle = os.memfd_create("tiles")
        os.ftruncate(self.handle, size)
        self.memory = mmap.mmap(self.handle, size)

    def close(self) -> None:
        """Free the memory once no array refers to it."""
        os.close(self.handle)


class ArenaPool:
    """Arenas of one reader. An arena is reused when the arrays in it are gone."""

    def __init__(self) -> None:
        self._free: list[Arena] = []

    def take(self, size: int) -> tuple[Arena, NDArray[np.uint8]]:
        """An arena of at least `size` bytes and its memory, uint8 (size,). It returns to the pool when that array
        and all views of it are gone.
        """
        fitting = [arena for arena in self._free if arena.size >= size]
        if fitting:
            arena = fitting[-1]
            self._free.remove(arena)
        else:
            self.close()  # too small for the next bundle
            arena = Arena(size)
        memory = np.frombuffer(arena.memory, np.uint8)
        weakref.finalize(memory, self._free.append, arena).atexit = False
        return arena, memory

    def close(self) -> None:
        """Free the arenas that are not in use."""
        while self._free:
            self._free.pop().close()


def moved_together(memory: NDArray[np.uint8], kept: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join arrays of pixels (n, t, t, 3), which lie in this order in an arena, into one, without the gaps.

    Data moves towards the start, over what is not kept.
    """
    shape = kept[0].shape[1:]
    tiles = memory[: PIXEL_BYTES * len(memory) // BYTES // prod(shape) * prod(shape)].reshape(-1, *shape)
    end = 0
    for array in kept:
        place = tiles[end : end + len(array)]
        if place.ctypes.data != array.ctypes.data:
            place[...] = array
        end += len(array)
    return tiles[:end]
