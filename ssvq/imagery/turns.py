"""Maps a drawing over the upright picture to the stored pixels of a photograph that EXIF turns."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

ReadWindow = Callable[[Window, tuple[int, int]], NDArray[np.uint8]]
"""Reads a window of a drawing, uint8 of a shape (rows, cols)."""


class Turn(NamedTuple):
    """How the stored pixels follow from the upright picture: transpose first, then mirror."""

    transposes: bool = False
    mirrors_x: bool = False
    mirrors_y: bool = False

    def upright_size(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the upright picture, from those of the stored image."""
        return stored[::-1] if self.transposes else stored

    def to_upright(self, points: NDArray[np.float64], stored: tuple[int, int]) -> NDArray[np.float64]:
        """Points (n, 2), x and y, of a stored image of that size, in the upright picture."""
        x, y = points[:, 0], points[:, 1]
        x = stored[0] - x if self.mirrors_x else x
        y = stored[1] - y if self.mirrors_y else y
        return np.column_stack([y, x] if self.transposes else [x, y])

    def read(
        self, window: Window, shape: tuple[int, int] | None, stored: tuple[int, int], read: ReadWindow
    ) -> NDArray[np.uint8]:
        """A window of a stored image of that size, uint8 (rows, cols) of the window or of `shape`. `read` reads the
        upright picture.
        """
        x, y, width, height = (int(value) for value in (window.col_off, window.row_off, window.width, window.height))
        shape = shape or (height, width)
        if self.mirrors_x:
            x = stored[0] - x - width
        if self.mirrors_y:
            y = stored[1] - y - height
        if self.transposes:
            found = read(Window(y, x, height, width), shape[::-1]).T
        else:
            found = read(Window(x, y, width, height), shape)
        return np.ascontiguousarray(found[:: -1 if self.mirrors_y else 1, :: -1 if self.mirrors_x else 1])


TURNS = {  # keys: EXIF's orientation
    1: Turn(),
    2: Turn(mirrors_x=True),
    3: Turn(mirrors_x=True, mirrors_y=True),
    4: Turn(mirrors_y=True),
    5: Turn(transposes=True),
    6: Turn(transposes=True, mirrors_y=True),
    7: Turn(transposes=True, mirrors_x=True, mirrors_y=True),
    8: Turn(transposes=True, mirrors_x=True),
}


def find_turn(size: tuple[int | None, int | None], image_size: tuple[int, int], orientation: int | None) -> Turn | None:
    """The turn of a drawing of that size. A drawing over the upright picture, or of unknown size, is turned; one
    that fits only the stored pixels is not. None for a drawing of another size.
    """
    turn = TURNS[orientation or 1]
    if None in size or size == turn.upright_size(image_size):
        return turn
    return Turn() if size == image_size else None
