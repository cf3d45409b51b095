"""Counting the pixels of scored images against their masks, in Ray tasks: see `ssvq.evaluation.regions`."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.evaluation.regions import PixelCounts, count_pixels
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.units import ImagePart, read_classes
from ssvq.pipeline import TASK_RETRIES
from ssvq.placement import anywhere
from ssvq.results.stitch import stitch

IMAGES_IN_FLIGHT = 32
COLUMNS = ["part", "kept", "score", "score_map"]


class PixelCounter:
    """Gathers the score maps of each image, and counts its pixels in a task once its last part has come.

    `failed` are the images whose mask could not be read again.
    """

    def __init__(self) -> None:
        self.failed: list[tuple[SourceImage, ImageError]] = []
        self._counts = PixelCounts()
        self._waiting: dict[str, list[pa.Table]] = {}
        self._running: dict[ray.ObjectRef, SourceImage] = {}
        self._count_image = ray.remote(num_cpus=1, max_retries=TASK_RETRIES, **anywhere())(count_image)

    def add(self, part: ImagePart, row: pa.Table) -> None:
        """One SCORED row, as a table, of a part that did not fail."""
        if not row["score_map"][0].is_valid or not pixels_are_labelled(part.source):
            return
        parts = self._waiting.setdefault(part.source.image_id, [])
        parts.append(row.select(COLUMNS))
        if len(parts) == part.count:
            if len(self._running) >= IMAGES_IN_FLIGHT:
                self._take_one()
            task = self._count_image.remote(self._waiting.pop(part.source.image_id))
            self._running[task] = part.source

    def finish(self) -> PixelCounts | None:
        """The counts of all images; None without an anomalous pixel. Images that lack a part are not in them."""
        while self._running:
            self._take_one()
        return self._counts if self._counts.anomalous.any() else None

    def _take_one(self) -> None:
        (task,), _ = ray.wait(list(self._running), num_returns=1)
        source, result = self._running.pop(task), ray.get(task)
        if isinstance(result, ImageError):
            self.failed.append((source, result))
        else:
            self._counts.add(PixelCounts.from_sparse(result))


def pixels_are_labelled(source: SourceImage) -> bool:
    """Whether it is known of each pixel if it is anomalous: by a mask, or because the whole image is normal."""
    return source.mask is not None or source.label == NORMAL_LABEL


def count_image(parts: list[pa.Table]) -> dict[str, Any] | ImageError:
    """The counts (`PixelCounts.sparse`) of an image from its SCORED rows, each a table with the columns `COLUMNS`."""
    tiles = [tile for part in parts for tile in _tiles(part)]
    if not tiles:  # no pixel is valid
        return PixelCounts().sparse()
    part = ImagePart.from_json(parts[0]["part"][0].as_py())
    width, height = part.header.width, part.header.height
    try:
        heat = stitch(tiles, width, height)
        return count_pixels(heat, width, height, partial(_classes, part.source)).sparse()
    except ImageError as error:
        return error


def _tiles(row: pa.Table) -> list[dict[str, Any]]:
    """The rows that `stitch` takes."""
    part = ImagePart.from_json(row["part"][0].as_py())
    block = list(part.grid.tiles(part.block))
    kept, scores = row["kept"][0].as_py(), row["score"][0].as_py()
    return [
        {
            "tiling_id": part.tiling.tiling_id,
            **{name: getattr(block[position], name) for name in ("x", "y", "width", "height")},
            "score": score,
            "score_map": score_map,
        }
        for position, score, score_map in zip(kept, scores, _score_maps(row), strict=True)
    ]


def _score_maps(row: pa.Table) -> NDArray[np.float16]:
    """Score maps of a part, float16 (n, rows, cols); Python lists of all cells would take most of the time."""
    maps = row["score_map"][0].values
    if len(maps) == 0:
        return np.empty((0, 1, 1), np.float16)
    cells = maps.flatten().flatten().to_numpy(zero_copy_only=False)
    return cells.reshape(len(maps), len(maps[0]), -1)


def _classes(source: SourceImage, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    classes = read_classes(source, x, y, width, height)
    if classes is None:
        raise ImageError("mask", "has neither mask nor label")
    return classes
