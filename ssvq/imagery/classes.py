"""The class of each pixel of an image: from its mask, or from its label."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window

from ssvq.errors import ImageError
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage
from ssvq.imagery.drawing import DrawnMask
from ssvq.imagery.exif import orientation, read_exif
from ssvq.imagery.masks import ANOMALOUS, MaskReader
from ssvq.imagery.raster import open_raster, read_errors
from ssvq.io import storage

OpenMask = MaskReader | DrawnMask


def read_classes(
    source: SourceImage, x: int, y: int, width: int, height: int, shape: tuple[int, int] | None = None
) -> NDArray[np.uint8] | None:
    """Class of each pixel of a window, uint8 (height, width) or `shape`; 0 is normal.

    From the mask; without one, the class of the image's label for all pixels. None if nothing is known. If the label is
    about a region, the pixels of the region have the class ANOMALOUS, whatever the label is.

    Raises ImageError (stage `mask`).
    """
    with ExitStack() as stack:
        window, shape = (x, y, width, height), shape or (height, width)
        if source.mask is None:
            return classes_of(source, None, window, shape)
        image = stack.enter_context(open_raster(source.uri, source.drivers))
        return classes_of(source, open_mask_of(source, image, stack), window, shape)


def open_mask_of(source: SourceImage, image: DatasetReader, stack: ExitStack) -> OpenMask | None:
    """`open_mask` of an open image."""
    if source.mask is None:
        return None
    return open_mask(source, (image.width, image.height), orientation(read_exif(image)), stack)


def open_mask(source: SourceImage, size: tuple[int, int], orientation: int | None, stack: ExitStack) -> OpenMask | None:
    """The mask of an image with stored size width x height, if it has one; closed with the stack.

    Raises ImageError (stage `mask`) for a mask that cannot be read or does not fit.
    """
    if source.mask is None:
        return None
    with _mask_errors(source.mask):
        if source.mask.drawing is not None:
            return DrawnMask(source.mask.drawing, size, orientation)
        picture = stack.enter_context(open_raster(source.mask.uri, source.drivers))
        return MaskReader(picture, size, source.mask.anomalous_classes, orientation)


def classes_of(
    source: SourceImage, mask: OpenMask | None, window: tuple[int, int, int, int], shape: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """`read_classes` with the open mask; `window`: x, y, width and height."""
    if source.region is not None:
        return _burn(source, window, shape)
    if mask is not None and source.mask is not None:
        with _mask_errors(source.mask):
            x, y, width, height = window
            classes = mask.read(Window(source.origin[0] + x, source.origin[1] + y, width, height), shape)
        if source.window is None or classes.any():
            return classes
    if source.label is None:
        return None
    return np.full(shape, 0 if source.label == NORMAL_LABEL else ANOMALOUS, np.uint8)


def _burn(source: SourceImage, window: tuple[int, int, int, int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels of a window whose centre lies in the image's region, uint8 of `shape`, as ANOMALOUS."""
    x, y, width, height = window
    left, top = source.origin[0] + x, source.origin[1] + y
    to_raster = Affine.translation(left, top) * Affine.scale(width / shape[1], height / shape[0])
    burned: NDArray[np.uint8] = rasterize(
        [(shapely.from_wkt(source.region), ANOMALOUS)], out_shape=shape, transform=to_raster, dtype=np.uint8
    )
    return burned


@contextmanager
def _mask_errors(mask: Mask) -> Iterator[None]:
    """Turn errors of reading a mask into ImageError of stage `mask`, so that people check the mask and not its
    image.
    """
    try:
        with read_errors(mask.uri):
            yield
    except ImageError as error:
        if error.stage == "mask":
            raise
        raise ImageError("mask", f"mask {storage.base_name(mask.uri)}: {error.message}") from error
