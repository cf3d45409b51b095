"""Work units: what one reading task reads, part by part.

A part is a block of one image's tiles, and travels through the pipeline as one row. A unit is what one task reads:
several small images, one image, or one band of a huge one. If the format allows windows, the bands of a huge image are
separate units. A JPEG or PNG, which can only be decoded from the start, stays one unit, so that it is decoded once.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby

from pydantic import TypeAdapter

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.classes import classes_of, open_mask, open_mask_of
from ssvq.imagery.grid import TileBlock, TileGrid, Tiling
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.imagery.raster import ImageHeader, open_raster, open_with_file, read_header
from ssvq.imagery.settings import PART_PIXELS
from ssvq.imagery.tiles import Allocate, TileArrays, cut_tiles, on_heap, window_shape
from ssvq.imagery.world_file import read_beside

IMAGES_IN_UNIT = 128
MAX_TILES = 250_000
"""Tiles of an image, whose rows are in memory together: some 600 MB. A file of a kilobyte can claim millions of
tiles.
"""


@dataclass(frozen=True)
class ImagePart:
    """A block of one image's tiles, number `index` of `count` parts of that image. `rule`: the model's.

    An image whose header cannot be read is one part without header and tiles.
    """

    source: SourceImage
    header: ImageHeader | None
    tiling: Tiling
    block: TileBlock
    index: int
    count: int
    rule: PixelRule = AS_STORED

    @property
    def grid(self) -> TileGrid:
        """The grid of the whole image. Raises ValueError for an image without a header."""
        if self.header is None:
            raise ValueError(f"the header of {self.source.uri} is not known")
        return TileGrid(self.header.width, self.header.height, self.tiling)

    @property
    def name(self) -> str:
        """The part's name within its survey."""
        return f"{self.source.image_id}/{self.index}"

    def to_json(self) -> str:
        """JSON, the form in which a part travels through Ray Data; never a pickle."""
        return _PART.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "ImagePart":
        """The part of `to_json`."""
        return _PART.validate_json(text)


_PART = TypeAdapter(ImagePart)


def inspect(source: SourceImage) -> ImageHeader:
    """The header of an image, after checking that its mask fits. Raises ImageError (stage `read` or `mask`)."""
    with open_with_file(source.uri, source.drivers) as (dataset, file):
        header = read_header(dataset, file)
        if header.crs is None and source.beside is not None:
            place = read_beside(source.beside, dataset)
            if place is not None:
                header = replace(header, crs=place[0].to_string(), transform=tuple(place[1])[:6])
    with ExitStack() as stack:  # an unusable mask is found before any work
        open_mask(source, (header.width, header.height), header.orientation, stack)
    return header if source.window is None else _of_window(header, *source.window)


def _of_window(header: ImageHeader, x: int, y: int, width: int, height: int) -> ImageHeader:
    if min(x, y, width - 1, height - 1) < 0 or x + width > header.width or y + height > header.height:
        raise ImageError("read", f"is not within its image of {header.width}x{header.height} pixels")
    return replace(header, width=width, height=height)


def split_image(
    source: SourceImage,
    header: ImageHeader,
    tiling: Tiling,
    rule: PixelRule = AS_STORED,
    part_pixels: int = PART_PIXELS,
) -> list[ImagePart]:
    """The parts that cover every tile of an image, to be read by the model's rule. `part_pixels`: most pixels of the
    tiles of a part, if it has more than one tile.
    """
    # What is decoded from its start is read in bands, from top to bottom.
    file_block = header.file_block if header.random_access else (1, 1)
    blocks = TileGrid(header.width, header.height, tiling).blocks(_tiles_of(part_pixels, tiling), file_block)
    return [ImagePart(source, header, tiling, block, i, len(blocks), rule) for i, block in enumerate(blocks)]


def headless_part(source: SourceImage, tiling: Tiling) -> ImagePart:
    """The one part of an image whose header cannot be read."""
    return ImagePart(source, None, tiling, TileBlock(0, 0, 0, 0), 0, 1)


def plan_units(
    images: Iterable[tuple[SourceImage, ImageHeader]],
    tiling: Tiling,
    rule: PixelRule = AS_STORED,
    pixels: int | None = None,
    part_pixels: int = PART_PIXELS,
) -> list[list[ImagePart]]:
    """Pack the parts of images into units: each part in exactly one unit, the parts of an image in order.

    `tiling` and `rule`: the model's preprocessing. `pixels`: of the tiles of several images in a unit (default: as in a
    part). `part_pixels`: as in `split_image`.
    """
    most = _tiles_of(part_pixels if pixels is None else pixels, tiling)
    units: list[list[ImagePart]] = []
    small: list[ImagePart] = []
    tiles = 0
    for source, header in images:
        parts = split_image(source, header, tiling, rule, part_pixels)
        if len(parts) > 1:
            units.extend([[part] for part in parts] if header.random_access else [parts])
            continue
        if small and (tiles + len(parts[0].block) > most or len(small) == IMAGES_IN_UNIT):
            units.append(small)
            small, tiles = [], 0
        small.append(parts[0])
        tiles += len(parts[0].block)
    return [*units, small] if small else units


def _check_tiles(grid: TileGrid) -> None:
    if len(grid) > MAX_TILES:
        raise ImageError(
            "read",
            f"has {len(grid):,} tiles of {grid.tiling.tile_size} pixels a side, more than the limit of "
            f"{MAX_TILES:,} for one image: cut the image, or train with larger tiles",
        )


def _tiles_of(pixels: int, tiling: Tiling) -> int:
    """The number of tiles with this many pixels; at least one."""
    return max(1, pixels // tiling.tile_size**2)


def bundles_of(unit: list[ImagePart]) -> list[list[ImagePart]]:
    """The parts of a unit in groups that are in memory together: one by one for an image of several parts, else all."""
    return [[part] for part in unit] if unit[0].count > 1 else [unit]


def read_unit(
    unit: list[ImagePart], allocate: Allocate = on_heap
) -> Iterator[tuple[ImagePart, TileArrays | ImageError]]:
    """Read a unit part by part; each image is opened once. `allocate` provides the memory of the tiles.

    An image or mask that fails, or an image of more than MAX_TILES, gives an ImageError for each of its remaining
    parts; the others continue.
    """
    for source, group in groupby(unit, key=lambda part: part.source):
        parts = list(group)
        done = 0
        try:
            _check_tiles(parts[0].grid)
            with ExitStack() as stack:
                image = stack.enter_context(open_raster(source.uri, source.drivers))
                mask = open_mask_of(source, image, stack)
                for part in parts:
                    window, shape = part.grid.window(part.block), window_shape(part.grid, part.block)
                    classes = classes_of(source, mask, window, shape)
                    yield part, cut_tiles(image, part.grid, part.block, part.rule, classes, source.origin, allocate)
                    done += 1
        except ImageError as error:
            yield from ((part, error) for part in parts[done:])
