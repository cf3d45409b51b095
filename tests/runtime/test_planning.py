"""Images become units of work, as the settings of reading say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import AS_STORED
from ssvq.imagery.settings import ReadLimits
from ssvq.runtime.dispatcher import Dispatcher
from ssvq.runtime.planning import plan_units_of_chunks, units_of
from tests.support.images import write_image
from tests.support.surveys import TILE


class OneChunk:
    """Hands out one chunk of images, none of which was tried before."""

    def __init__(self, images: list[SourceImage]) -> None:
        self.chunk = TypeAdapter(list[SourceImage]).dump_json(images).decode()

    def chunks(self, planner: int) -> Iterator[tuple[str, Any]]:
        yield self.chunk, self

    def may_try(self, image_id: str, of: int) -> bool:
        return True


def test_a_large_image_is_planned_in_the_parts_that_are_asked_for(tmp_path: Path) -> None:
    write_image(
        tmp_path / "a.tif", np.zeros((4 * TILE, 4 * TILE, 3), np.uint8), tiled=True, blockxsize=32, blockysize=32
    )
    images = list_images(str(tmp_path), "--survey")
    tiling = Tiling(tile_size=TILE, stride=TILE)
    for tiles, sizes in ((16, [16]), (4, [4, 4, 4, 4])):
        limits = ReadLimits(part_pixels=tiles * TILE**2)
        planner = pa.table({"planner": [0]})
        dispatcher = cast(Dispatcher, OneChunk(images))
        rows = pa.concat_tables(plan_units_of_chunks(planner, dispatcher, tiling, AS_STORED, limits, 2**30))
        assert [[len(part.block) for part, error in unit] for unit in units_of(rows)] == [[size] for size in sizes]
