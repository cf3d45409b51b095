"""The pictures of a report as data URIs: a thumbnail, a preview, and the heat over it."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssvq.errors import ImageError, InputError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.results.html import data_uri, encode_webp
from ssvq.results.pictures.heat import COLOURS, FULL_SCALE, opacity
from ssvq.results.report.shown import ReportImage
from ssvq.scores.choose import read_heat
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.ledger_row import ImageRow

THREADS = 4  # pictures at work at a time: threads wait for S3, and decoded pixels stay bounded
THUMBNAIL = 128  # pixels of the longest side, shown at half of that on common screens
# Longest side of the preview and quality of its WebP: the first that fits the bytes.
PREVIEWS = ((1152, 74), (896, 72), (704, 70), (544, 66), (416, 60), (320, 50), (240, 40), (160, 30))
HEAT_SIDE = 192  # cells
ALL_PICTURES = 13_500_000  # bytes of a page of 20 MB, before base64 makes 4 of 3
MOST_BYTES = 130_000  # for an image


@dataclass(frozen=True)
class Picture:
    """The data URIs of an image, or the problem if there are none."""

    problem: str | None = None
    thumbnail: str = ""
    preview: str = ""
    width: int = 0
    """Pixels of the preview."""
    height: int = 0
    heat: str = ""
    """Empty if nothing was scored."""
    heat_width: float = 0
    """Share of the image that the heat covers; the last cells may reach over its edge."""
    heat_height: float = 0
    frames: Sequence[tuple[float, float, float, float]] = ()
    """The worst anomalous tiles: x, y, width and height as shares of the image."""


def make_pictures(scores: str, images: Sequence[ReportImage], rule: PixelRule, taken: int = 0) -> Iterator[Picture]:
    """The pictures of images, in their order, with pixels as the model sees them. `taken`: bytes of the page that other
    pictures use.
    """
    most = bytes_for(len(images), taken)
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda image: make_picture(scores, image, rule, most), images)


def bytes_for(number: int, taken: int = 0) -> int:
    """Bytes for each of a number of images, before base64, from those that are left."""
    return min(MOST_BYTES, (ALL_PICTURES - taken) // max(1, number))


def make_picture(scores: str, image: ReportImage, rule: PixelRule, most_bytes: int) -> Picture:
    """The pictures of one image, at most `most_bytes` together unless the smallest preview is larger."""
    try:
        pixels = read_whole(image, rule, PREVIEWS[0][0])
    except ImageError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        return Picture(problem="the source image is missing" if gone else error.message)
    try:
        found = read_heat(scores, image)
    except InputError as error:
        return Picture(problem=str(error))
    photograph = Image.fromarray(pixels)
    thumbnail = encode_webp(_smaller(photograph, THUMBNAIL), 60)
    picture, spent = Picture(thumbnail=data_uri(thumbnail)), len(thumbnail)
    if found is not None:
        heat, threshold = found
        colours, step = colour_heat(heat, threshold)
        coloured = encode_webp(Image.fromarray(colours), 70)
        spent += len(coloured)
        width, height = image.image_width, image.image_height
        picture = replace(
            picture,
            heat=data_uri(coloured),
            heat_width=colours.shape[1] * step * heat.pitch_x / width,
            heat_height=colours.shape[0] * step * heat.pitch_y / height,
            frames=[(x / width, y / height, w / width, h / height) for x, y, w, h in image.frames],
        )
    for side, quality in PREVIEWS:
        shown = _smaller(photograph, side)
        preview = encode_webp(shown, quality)
        if spent + len(preview) <= most_bytes:
            break
    return replace(picture, preview=data_uri(preview), width=shown.width, height=shown.height)


def colour_heat(heat: HeatMap, threshold: float) -> tuple[NDArray[np.uint8], int]:
    """Heat as uint8 RGBA on the scale of `ssvq overlay`, and how many cells a pixel covers on each side.

    A pixel shows its hottest cell, so that small defects stay visible.
    """
    values = np.nan_to_num(heat.values)
    step = math.ceil(max(values.shape) / HEAT_SIDE)
    rows, cols = (-(-length // step) for length in values.shape)
    padded = np.zeros((rows * step, cols * step), np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    hottest = padded.reshape(rows, step, cols, step).max(axis=(1, 3))
    times = hottest / threshold if threshold > 0 else hottest
    colours = np.array(matplotlib.colormaps[COLOURS](np.clip(times / FULL_SCALE, 0, 1)))
    colours[..., 3] = opacity(times)
    return (colours * 255).round().astype(np.uint8), step


def read_whole(image: ImageRow, rule: PixelRule, side: int) -> NDArray[np.uint8]:
    """An image as uint8 RGB whose longest side has at most `side` pixels. Raises ImageError."""
    width, height = image.image_width, image.image_height
    shrink = max(1.0, max(width, height) / side)
    with open_raster(image.image_uri, [image.driver]) as dataset:
        if (dataset.width, dataset.height) != (width, height):
            raise ImageError("read", f"is {dataset.width} x {dataset.height} now: it changed after it was scored")
        shape = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        return read_rgb(dataset, 0, 0, width, height, shape, rule)[0]


def _smaller(picture: Image.Image, side: int) -> Image.Image:
    smaller = picture.copy()
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    return smaller
