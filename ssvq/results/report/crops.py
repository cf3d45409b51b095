"""Close-ups of findings for a report: a part of the image around each, and its outline as a path over it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry.base import BaseGeometry

from ssvq.errors import ImageError
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster
from ssvq.progress import Progress
from ssvq.results.html import Kind, data_uri, encode_jpeg, encode_webp
from ssvq.scores.findings import Finding
from ssvq.scores.ledger_row import ImageRow

THREADS = 4  # images at work at a time
AROUND = 1.6  # side of a crop, as a multiple of the finding's
LEAST_SIDE = 256  # pixels of the image in a crop: a small finding needs context to be recognised


@dataclass(frozen=True)
class CropFormat:
    """How crops are encoded. `sizes`: longest side in pixels and quality; the first that fits the bytes is taken."""

    kind: Kind
    sizes: tuple[tuple[int, int], ...]
    all_bytes: int
    """Largest size of all crops together, before base64."""

    most_bytes: int
    """Largest size of one crop."""


ON_PAGE = CropFormat("webp", ((384, 72), (320, 68), (256, 64), (192, 58), (128, 50), (96, 40)), 4_500_000, 24_000)
# 480 pixels are 200 dpi at the width of a severe finding on paper.
IN_PRINT = CropFormat("jpeg", ((480, 80), (400, 76), (320, 72), (256, 66), (192, 60), (128, 50)), 16_000_000, 40_000)

ImageVersion = tuple[str, str]
"""Id and fingerprint of an image."""


@dataclass(frozen=True)
class Crop:
    """A close-up: x, y, width and height in pixels of the image, and the picture as a data URI, or the problem if there
    is none.

    `path`: the outline as an SVG path in pixels of the crop.
    """

    x: int
    y: int
    width: int
    height: int
    path: str = ""
    picture: str = ""
    problem: str | None = None


def version_of_image(row: Finding | ImageRow) -> ImageVersion:
    """The version of an image, or of the image that a finding belongs to."""
    return row.image_id, row.fingerprint


def make_crops(
    findings: Sequence[Finding],
    images: Mapping[ImageVersion, ImageRow],
    rule: PixelRule,
    form: CropFormat = ON_PAGE,
) -> list[Crop]:
    """Close-ups of findings, in their order. Each image is opened once."""
    by_image = groupby(sorted(findings, key=_by_place), key=version_of_image)
    of_images = [(images[version], list(group)) for version, group in by_image]
    most_bytes = min(form.most_bytes, form.all_bytes // max(1, len(findings)))
    crops: dict[str, Crop] = {}

    def crops_of(of_image: tuple[ImageRow, list[Finding]]) -> dict[str, Crop]:
        return dict(_crops_of(of_image[0], of_image[1], rule, form, most_bytes))

    with ThreadPoolExecutor(THREADS) as pool, Progress("cutting findings", len(of_images), "images") as progress:
        for done in pool.map(crops_of, of_images):
            crops |= done
            progress.advance(1)
    return [crops[finding.finding_id] for finding in findings]


def _by_place(finding: Finding) -> tuple[str, str, int, int]:
    """Sort key: findings of an image from top to bottom, for formats without random access."""
    return *version_of_image(finding), finding.y, finding.x


def _crops_of(
    image: ImageRow, findings: Sequence[Finding], rule: PixelRule, form: CropFormat, most_bytes: int
) -> Iterator[tuple[str, Crop]]:
    windows = [crop_window(finding, image.image_width, image.image_height) for finding in findings]
    done, longest = 0, form.sizes[0][0]
    try:
        with open_raster(image.image_uri, [image.driver]) as dataset:
            if (dataset.width, dataset.height) != (image.image_width, image.image_height):
                raise ImageError("read", "changed after it was scored")
            for finding, (x, y, width, height) in zip(findings, windows, strict=True):
                path = outline_path(finding.region, x, y, max(width, height) / longest)
                shrink = max(1.0, max(width, height) / longest)
                shape = (max(1, round(height / shrink)), max(1, round(width / shrink)))
                pixels, _ = read_rgb(dataset, x, y, width, height, shape, rule)
                yield finding.finding_id, Crop(x, y, width, height, path, _encode(pixels, form, most_bytes))
                done += 1
    except ImageError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        problem = "the source image is missing" if gone else error.message
        for finding, window in zip(findings[done:], windows[done:], strict=True):
            yield finding.finding_id, Crop(*window, problem=problem)


def crop_window(finding: Finding, image_width: int, image_height: int) -> tuple[int, int, int, int]:
    """The part of an image to show around a finding: x, y, width and height in pixels, moved and cut to lie within the
    image.
    """
    side = max(LEAST_SIDE, math.ceil(AROUND * max(finding.width, finding.height)))
    width, height = min(side, image_width), min(side, image_height)
    x = finding.x + finding.width // 2 - width // 2
    y = finding.y + finding.height // 2 - height // 2
    return min(max(0, x), image_width - width), min(max(0, y), image_height - height), width, height


def outline_path(outline: BaseGeometry, x: int, y: int, pixel: float) -> str:
    """An outline as an SVG path in pixels from x, y on. Details finer than half a `pixel` are dropped."""
    simple = shapely.simplify(outline, pixel / 2)
    rings = [ring for part in shapely.get_parts(simple) for ring in (part.exterior, *part.interiors)]
    return "".join(
        "M" + "L".join(f"{round(px - x)},{round(py - y)}" for px, py in shapely.get_coordinates(ring)[:-1]) + "Z"
        for ring in rings
    )


def _encode(pixels: NDArray[np.uint8], form: CropFormat, most_bytes: int) -> str:
    photograph = Image.fromarray(pixels)
    encode = encode_webp if form.kind == "webp" else encode_jpeg
    for side, quality in form.sizes:
        shown = photograph.copy()
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        encoded = encode(shown, quality)
        if len(encoded) <= most_bytes:
            break
    return data_uri(encoded, form.kind)
