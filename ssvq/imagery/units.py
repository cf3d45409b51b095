"""Work units: what one reading task takes, at most `MAX_TILES` tiles at a time.

A part is a block of one image's tiles and travels through the pipeline as one row. A unit is what one task
reads: several small images, one image, or one band of a huge one. Where the format allows windows, the bands of
a huge image are units of their own; a JPEG or PNG, which can only be decoded from its start, stays one unit, so
that it is decoded once.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby

from pydantic import TypeAdapter
from rasterio.io import DatasetReader

from ssvq import storage
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.grid import TileBlock, TileGrid, Tiling
from ssvq.imagery.labels import check_mask
from ssvq.imagery.raster import ImageHeader, open_raster, read_header
from ssvq.imagery.tiles import TileArrays, cut_tiles

MAX_TILES = 128  # 96 MiB of 512x512 RGB pixels, under Ray Data's block size of 128 MiB


@dataclass(frozen=True)
class ImagePart:
    """A block of one image's tiles; `index` of `count` parts of that image."""

    source: SourceImage
    header: ImageHeader
    tiling: Tiling
    block: TileBlock
    index: int
    count: int

    @property
    def grid(self) -> TileGrid:
        """The grid of the whole image."""
        return TileGrid(self.header.width, self.header.height, self.tiling)

    def to_json(self) -> str:
        """JSON, as it travels through Ray Data; never a pickle."""
        return _PART.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "ImagePart":
        """The part of `to_json`."""
        return _PART.validate_json(text)


_PART = TypeAdapter(ImagePart)


def inspect(source: SourceImage) -> ImageHeader:
    """The header of an image, after checking that its mask, if it has one, fits it.

    Raises ImageError (stage `read` or `mask`).
    """
    with open_raster(source.uri) as dataset:
        header = read_header(dataset)
    if source.mask_uri is not None:
        with open_mask(source) as mask:
            check_mask(mask, header.width, header.height)
    return header


@contextmanager
def open_mask(source: SourceImage) -> Iterator[DatasetReader]:
    """Open the mask of an image. Raises ImageError (stage `mask`), also from within the block."""
    if source.mask_uri is None:
        raise ImageError("mask", "has no mask")
    try:
        with open_raster(source.mask_uri) as mask:
            yield mask
    except ImageError as error:
        raise ImageError("mask", f"mask {storage.base_name(source.mask_uri)}: {error.message}") from error


def split_image(source: SourceImage, header: ImageHeader, tiling: Tiling) -> list[ImagePart]:
    """The parts that cover every tile of an image."""
    blocks = TileGrid(header.width, header.height, tiling).blocks(MAX_TILES)
    return [ImagePart(source, header, tiling, block, i, len(blocks)) for i, block in enumerate(blocks)]


def plan_units(images: Iterable[tuple[SourceImage, ImageHeader]], tiling: Tiling) -> list[list[ImagePart]]:
    """Pack the parts of images into units: each part in exactly one unit, the parts of an image in order."""
    units: list[list[ImagePart]] = []
    small: list[ImagePart] = []
    tiles = 0
    for source, header in images:
        parts = split_image(source, header, tiling)
        if len(parts) > 1:
            units.extend([[part] for part in parts] if header.random_access else [parts])
            continue
        if tiles + len(parts[0].block) > MAX_TILES:
            units.append(small)
            small, tiles = [], 0
        small.append(parts[0])
        tiles += len(parts[0].block)
    return [*units, small] if small else units


def read_unit(unit: list[ImagePart]) -> Iterator[tuple[ImagePart, TileArrays | ImageError]]:
    """Read a unit part by part, each image opened once.

    An image or mask that fails gives an ImageError for each of its remaining parts, and the rest goes on.
    """
    for source, group in groupby(unit, key=lambda part: part.source):
        parts = list(group)
        done = 0
        try:
            with ExitStack() as stack:
                mask = stack.enter_context(open_mask(source)) if source.mask_uri else None
                image = stack.enter_context(open_raster(source.uri))
                for part in parts:
                    tiles = cut_tiles(image, part.grid, part.block, mask)
                    yield part, tiles
                    done += 1
        except ImageError as error:
            yield from ((part, error) for part in parts[done:])
