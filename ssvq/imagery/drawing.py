"""The drawing of a label tool over an image: the class of each pixel, drawn for the window that is read.

A pixel has the class of the shape that contains its centre, the last one if there are several. A polygon that crosses
itself is filled by the even-odd rule, as label tools show it. Photographs that EXIF turns follow the rule of masks.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.runs import Runs
from ssvq.imagery.turns import find_turn


@dataclass(frozen=True)
class Drawing:
    """Shapes over a picture of `width` x `height` pixels; None: the size of the upright image.

    `classes` names the classes 1, 2, ... A shape is its class and its geometry: polygons as WKB in hexadecimal digits,
    then masks. It holds only text and numbers, since it travels with its image to the task that reads it.
    """

    width: int | None
    height: int | None
    classes: tuple[str, ...]
    polygons: tuple[tuple[int, str], ...] = ()
    masks: tuple[tuple[int, Runs], ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits that change with the drawing."""
        return hashlib.sha256(_DRAWING.dump_json(self)).hexdigest()[:16]


_DRAWING = TypeAdapter(Drawing)


class DrawnMask:
    """A drawing over a stored image of `image_size`, (width, height), with EXIF `orientation`.

    Raises ImageError (stage `mask`) if the drawing fits neither the upright nor the stored picture.
    """

    def __init__(self, drawing: Drawing, image_size: tuple[int, int], orientation: int | None = None) -> None:
        size = (drawing.width, drawing.height)
        turn = find_turn(size, image_size, orientation)
        if turn is None:
            raise ImageError(
                "mask",
                f"was labelled as a picture of {drawing.width}x{drawing.height} pixels but has "
                f"{image_size[0]}x{image_size[1]}: label the image itself",
            )
        self._turn, self._image_size = turn, image_size
        self._polygons = shapely.from_wkb([wkb for _, wkb in drawing.polygons])
        self._bounds = shapely.bounds(self._polygons)
        self._classes = [number for number, _ in drawing.polygons]
        self._masks = drawing.masks

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Class of each pixel of a window of the stored image: uint8 (height, width) of the window or of `shape`; 0 is
        normal.
        """
        return self._turn.read(window, shape, self._image_size, self._read_upright)

    def _read_upright(self, window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        x, y, width, height = (int(value) for value in (window.col_off, window.row_off, window.width, window.height))
        rows, cols = shape
        classes = np.zeros(shape, np.uint8)
        left, top, right, bottom = self._bounds.reshape(-1, 4).T
        near = np.flatnonzero((left < x + width) & (right > x) & (top < y + height) & (bottom > y))
        if len(near):
            to_picture = Affine(width / cols, 0, x, 0, height / rows, y)
            drawn = ((self._polygons[i], self._classes[i]) for i in near)
            rasterize(drawn, out=classes, transform=to_picture)
        xs, ys = _centres(x, width, cols), _centres(y, height, rows)
        for number, runs in self._masks:
            classes[runs.read(xs, ys)] = number
        return classes


def _centres(start: int, length: int, steps: int) -> NDArray[np.int64]:
    """The pixels under the centres of this many equal steps."""
    return start + np.floor((np.arange(steps) + 0.5) * length / steps).astype(np.int64)
