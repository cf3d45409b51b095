"""One image as `ssvq check` sees it: header, mask, and a small picture with the mask drawn on it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.io import DatasetReader

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.classes import read_classes
from ssvq.imagery.near_duplicates import as_vector, shrink
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import ImageHeader, open_raster
from ssvq.imagery.units import inspect
from ssvq.results.html import data_uri, encode_webp

SIDE = 320
"""Longest side of a picture, in pixels."""

MASK_SIDE = 1024  # sampled pixels of a mask
QUALITY = 62  # of a picture's WebP
MOST_WITHOUT_OVERVIEWS = 300_000_000  # pixels of a raster that must be read whole for a small picture
PAINT = (255, 0, 200)  # rare in photographs of things
TINT = 0.35


@dataclass(frozen=True)
class Look:
    """The result of a look. `error`: why a training or scoring would refuse the image. `share`: its anomalous share,
    None if unknown. `vector`: as in `near_duplicates`. `picture`: data URI, empty unless asked for.
    """

    source: SourceImage
    header: ImageHeader | None = None
    error: ImageError | None = None
    share: float | None = None
    vector: NDArray[np.float32] | None = None
    picture: str = ""


def look_at(source: SourceImage, rule: PixelRule, *, with_picture: bool) -> Look:
    """Look at an image. Its problems are part of the result."""
    header = None
    try:
        header = inspect(source)
        classes = _read_mask(source, header)
        share = None if classes is None else float((classes > 0).mean())
        pixels = _read_small(source, header, rule)
    except ImageError as error:
        return Look(source, header, error)
    if pixels is None:
        return Look(source, header, share=share)
    return Look(
        source,
        header,
        share=share,
        vector=as_vector(shrink(pixels[..., 1])),
        picture=data_uri(encode_webp(draw(pixels, classes), QUALITY)) if with_picture else "",
    )


def _shape(header: ImageHeader, side: int) -> tuple[int, int]:
    """Rows and columns of an image shrunk to a longest side; never enlarged."""
    scale = min(1.0, side / max(header.width, header.height))
    return max(1, round(header.height * scale)), max(1, round(header.width * scale))


def _read_mask(source: SourceImage, header: ImageHeader) -> NDArray[np.uint8] | None:
    if source.mask is None:
        return None
    return read_classes(source, 0, 0, header.width, header.height, _shape(header, MASK_SIDE))


def _read_small(source: SourceImage, header: ImageHeader, rule: PixelRule) -> NDArray[np.uint8] | None:
    """The image as the model would see it, but small; None if it is too large to read."""
    with open_raster(source.uri, source.drivers) as dataset:
        if _is_costly(dataset):
            return None
        x, y = source.origin
        return read_rgb(dataset, x, y, header.width, header.height, _shape(header, SIDE), rule)[0]


def _is_costly(dataset: DatasetReader) -> bool:
    pixels = dataset.width * dataset.height
    return pixels > MOST_WITHOUT_OVERVIEWS and dataset.driver != "JPEG" and not dataset.overviews(1)


def draw(pixels: NDArray[np.uint8], classes: NDArray[np.uint8] | None) -> Image.Image:
    """A picture with the anomalous part tinted and outlined."""
    if classes is None or not classes.any():
        return Image.fromarray(pixels)
    size = (pixels.shape[1], pixels.shape[0])
    painted = np.asarray(Image.fromarray((classes > 0).astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 96
    inner = painted.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(painted, step, axis)
    drawn = np.where(painted[..., None], pixels * (1 - TINT) + np.array(PAINT) * TINT, pixels)
    drawn[painted & ~inner] = PAINT
    return Image.fromarray(drawn.astype(np.uint8))
