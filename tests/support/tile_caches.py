"""Tile caches made in code."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.grid import TileGrid, Tiling
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart
from ssvq.training.tile_cache import TileRef, write_part

TILE = 16


def write_tiles(folder: Path, name: str, pixels: NDArray[np.uint8], masks: NDArray[np.bool_]) -> list[TileRef]:
    """Put tiles (n, TILE, TILE, 3) into a cache, as those of one image of one row."""
    n = len(pixels)
    header = ImageHeader(TILE * n, TILE, 3, "uint8", "PNG", None, None, False, (TILE * n, 1), None, None, None, None)
    tiling = Tiling(tile_size=TILE, stride=TILE)
    (block,) = TileGrid(TILE * n, TILE, tiling).blocks(n)
    part = ImagePart(SourceImage(name, name, "1", 1), header, tiling, block, 0, 1)
    rows = write_part(str(folder), part, TileArrays(pixels, None, masks.astype(np.uint8), TILE**2))
    return [TileRef(*(row[name] for name in ("file", "batch", "row", "width", "height"))) for row in rows]  # type: ignore[arg-type]
