"""What an image says of itself must lead GDAL nowhere else, and make nobody hold what no image has."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from ssvq.errors import ImageError
from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.raster import MAX_SIDE, open_raster, read_header
from ssvq.imagery.units import MAX_TILES, inspect, plan_units, read_unit
from tests.support.hostile import tiff
from tests.support.images import write_image

PIXELS = np.full((64, 64, 3), 90, np.uint8)


def test_overviews_in_another_file_are_refused(tmp_path: Path) -> None:
    path, other = write_image(tmp_path / "a.tif", PIXELS), write_image(tmp_path / "other.tif", PIXELS[:32, :32])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(other))
    with rasterio.open(path) as dataset:  # a trap that works
        assert dataset.read(1, out_shape=(32, 32)).shape == (32, 32)
        assert len(dataset.files) > 1 or dataset.overviews(1)
    with pytest.raises(ImageError, match="has its overviews in another file"), open_raster(str(path)):
        pass


def sparse(path: Path, width: int, height: int) -> Path:
    """A TIFF of some hundred bytes that claims any size: tiles that are nowhere."""
    number = -(-width // 16_384) * -(-height // 16_384)
    tiles = {322: (4, 16_384), 323: (4, 16_384), 324: (4, (0,) * number), 325: (4, (0,) * number)}
    path.write_bytes(tiff({256: (4, width), 257: (4, height), **tiles}, b""))
    return path


def test_a_side_that_no_image_has_is_refused(tmp_path: Path) -> None:
    for width, height in ((MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)):
        path = str(sparse(tmp_path / "a.tif", width, height))
        claim = rf"^claims {width}x{height} pixels, more than the limit of 1e\+07 a side"
        with pytest.raises(ImageError, match=claim), open_raster(path) as dataset:
            read_header(dataset)


def test_more_tiles_than_are_held_are_refused_one_part_as_another(tmp_path: Path) -> None:
    sparse(tmp_path / "a.tif", 40_000, 40_000)
    (source,) = list_images(str(tmp_path), "--survey")
    units = plan_units([(source, inspect(source))], Tiling(tile_size=64, stride=64))
    assert sum(len(part.block) for unit in units for part in unit) == 625**2 > MAX_TILES
    for unit in units[:2]:
        for _, result in read_unit(unit):
            assert isinstance(result, ImageError)
            assert result.stage == "read"
            assert result.message.startswith("has 390,625 tiles of 64 pixels a side, more than the limit of 250,000")
