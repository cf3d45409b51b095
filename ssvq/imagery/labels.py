"""Labels from masks: which pixels are anomalous, and which share of a tile."""

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ssvq.errors import ImageError


def check_mask(mask: DatasetReader, width: int, height: int) -> None:
    """Raises ImageError (stage `mask`) unless the mask has the size of its image."""
    if (mask.width, mask.height) != (width, height):
        raise ImageError(
            "mask",
            f"mask is {mask.width}x{mask.height} but the image is {width}x{height}: "
            "draw it again at the size of the image",
        )


def read_anomalous(mask: DatasetReader, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels of a window are anomalous, bool (height, width): every value but 0 is.

    A palette PNG holds class ids, and class 0 is normal; of a colour mask, black is normal. Alpha is ignored.
    """
    bands = [band for band, colour in enumerate(mask.colorinterp, start=1) if colour != ColorInterp.alpha]
    values = mask.read(bands, window=Window(x, y, width, height))
    return np.any(values != 0, axis=0)
