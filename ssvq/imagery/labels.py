"""Labels from masks: the class of each pixel."""

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.pixels import picture_bands, stored_bits, zero_is_white

ANOMALOUS = 255
"""The class of an anomalous pixel that has no class id of its own."""


def check_mask(mask: DatasetReader, width: int, height: int, classes: tuple[int, ...] | None) -> None:
    """Raises ImageError (stage `mask`) unless the mask has the size of its image, and class ids where those are asked
    for.
    """
    if (mask.width, mask.height) != (width, height):
        raise ImageError(
            "mask",
            f"mask is {mask.width}x{mask.height} but the image is {width}x{height}: "
            "draw it again at the size of the image",
        )
    if classes is not None and len(picture_bands(mask)) > 1:
        raise ImageError("mask", "mask is in colour and has no class ids: leave --anomalous-classes out")


def read_mask(
    mask: DatasetReader,
    classes: tuple[int, ...] | None,
    window: Window,
    out_shape: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Class of each pixel of a window, uint8 (height, width), or of `out_shape`; 0 is normal.

    A grey or palette mask holds class ids, counted from black where it is stored with 0 as white; with `classes` only
    those are anomalous and the others become 0. Of a colour mask, black is normal and everything else is of class
    ANOMALOUS. Alpha is ignored.
    """
    bands = picture_bands(mask)
    values = mask.read(bands, window=window, out_shape=None if out_shape is None else (len(bands), *out_shape))
    if len(bands) > 1:
        return np.any(values != 0, axis=0) * np.uint8(ANOMALOUS)
    plane = np.nan_to_num(values[0])  # what is not a number is no class
    if zero_is_white(mask):
        plane = 2 ** stored_bits(mask, 1, 8 * plane.itemsize) - 1 - plane
    ids = np.clip(plane, 0, ANOMALOUS).astype(np.uint8)
    ids[(plane != 0) & (ids == 0)] = ANOMALOUS  # fractions and negative numbers are not 0 either
    return ids if classes is None else np.where(np.isin(ids, classes), ids, np.uint8(0))
