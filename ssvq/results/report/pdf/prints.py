"""Pictures for paper, as JPEG, which a PDF embeds unchanged: whole images under their heat, and one for the cover."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ssvq.errors import ImageError, InputError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.results.html import data_uri, encode_jpeg
from ssvq.results.report.crops import outline_path, version_of_image
from ssvq.results.report.pictures import colour_heat, read_whole
from ssvq.scores.choose import read_heat
from ssvq.scores.findings import Finding
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.ledger_row import ImageRow

THREADS = 4  # images at work at a time
COVER_SIDE = 1600  # pixels: 240 dpi across the page
COVER_TRIES = 3  # images to try; a source file may be missing
COVER_OUTLINES = 300
# Longest side of an image under its heat and quality of its JPEG: the first that fits the bytes.
PRINTS = ((960, 80), (800, 76), (640, 72), (480, 68), (360, 62), (240, 55))
ALL_PRINTS = 16_000_000  # bytes in a document, before base64
MOST_BYTES = 180_000  # for an image


@dataclass(frozen=True)
class Print:
    """A picture as a data URI with its size in pixels, or the problem if there is none."""

    picture: str = ""
    width: int = 0
    height: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Cover:
    """The image on the cover. `outlines`: of its findings, as SVG paths in pixels of the stored raster."""

    image: ImageRow
    shown: Print
    outlines: list[str]


def make_prints(scores: str, images: Sequence[ImageRow], rule: PixelRule) -> Iterator[Print]:
    """Images under their heat, in their order."""
    most = min(MOST_BYTES, ALL_PRINTS // max(1, len(images)))
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda image: _make_print(scores, image, rule, most), images)


def make_cover(images: Sequence[ImageRow], findings: Sequence[Finding], rule: PixelRule) -> Cover | None:
    """The image with the worst finding, else the image with the worst score; None if none can be read.

    `images` and `findings`: worst first.
    """
    known = {version_of_image(image): image for image in images}
    worst = [known[version] for version in dict.fromkeys(map(version_of_image, findings)) if version in known]
    for image in [*worst, *images][:COVER_TRIES]:
        try:
            pixels = read_whole(image, rule, COVER_SIDE)
        except ImageError:
            continue
        photograph = Image.fromarray(pixels)
        shown = Print(data_uri(encode_jpeg(photograph, 85), "jpeg"), photograph.width, photograph.height)
        pixel = max(image.image_width, image.image_height) / COVER_SIDE
        own = [finding for finding in findings if version_of_image(finding) == version_of_image(image)][:COVER_OUTLINES]
        return Cover(image, shown, [outline_path(finding.region, 0, 0, pixel) for finding in own])
    return None


def _make_print(scores: str, image: ImageRow, rule: PixelRule, most_bytes: int) -> Print:
    try:
        photograph = Image.fromarray(read_whole(image, rule, PRINTS[0][0]))
        found = read_heat(scores, image)
    except ImageError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        return Print(problem="the source image is missing" if gone else error.message)
    except InputError as error:
        return Print(problem=str(error))
    if found is not None:
        photograph = _under_heat(photograph, *found, image.image_width)
    for side, quality in PRINTS:
        shown = photograph.copy()
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        encoded = encode_jpeg(shown, quality)
        if len(encoded) <= most_bytes:
            break
    return Print(data_uri(encoded, "jpeg"), shown.width, shown.height)


def _under_heat(photograph: Image.Image, heat: HeatMap, threshold: float, image_width: int) -> Image.Image:
    """A photograph, smaller than its image, under its heat. Cells keep sharp edges."""
    colours, step = colour_heat(heat, threshold)
    scale = photograph.width / image_width
    width = max(1, math.ceil(colours.shape[1] * step * heat.pitch_x * scale))
    height = max(1, math.ceil(colours.shape[0] * step * heat.pitch_y * scale))
    layer = Image.new("RGBA", photograph.size)
    layer.paste(Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST))
    return Image.alpha_composite(photograph.convert("RGBA"), layer).convert("RGB")
