"""Counts pixels of scored images against their masks, in Ray tasks; see `ssvq.evaluation.regions`."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.evaluation.regions import PixelCounts, count_pixels
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.classes import read_classes
from ssvq.runtime.placement import anywhere
from ssvq.scores.heat_map import stitch
from ssvq.scores.score_map import ScoreMap
from ssvq.scoring.rows import ScoredPart

IMAGES_IN_FLIGHT = 32
TASK_RETRIES = 2


class PixelCounter:
    """Collects the score maps of each image, and counts its pixels in a task once its last part has come.

    `cell`: side of the model's latent cells. `failed`: images whose mask could not be read again.
    """

    def __init__(self, cell: int) -> None:
        self.failed: list[tuple[SourceImage, ImageError]] = []
        self._cell = cell
        self._counts = PixelCounts()
        self._waiting: dict[str, list[ScoredPart]] = {}
        self._running: dict[ray.ObjectRef, SourceImage] = {}
        self._count_image = ray.remote(num_cpus=1, max_retries=TASK_RETRIES, **anywhere())(count_image)

    def add(self, scored: ScoredPart) -> None:
        """Add a part that did not fail."""
        part = scored.part
        if scored.score_map is None or not pixels_are_labelled(part.source):
            return
        parts = self._waiting.setdefault(part.source.image_id, [])
        parts.append(replace(scored, labels=None))
        if len(parts) == part.count:
            if len(self._running) >= IMAGES_IN_FLIGHT:
                self._take_one()
            task = self._count_image.remote(self._waiting.pop(part.source.image_id), self._cell)
            self._running[task] = part.source

    def finish(self) -> PixelCounts | None:
        """The counts of all complete images; None without an anomalous pixel."""
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
    """Whether every pixel has a label: by a mask, or because the whole image is normal."""
    return source.mask is not None or source.label == NORMAL_LABEL


def count_image(parts: list[ScoredPart], cell: int) -> dict[str, Any] | ImageError:
    """The counts (`PixelCounts.sparse`) of an image from its scored parts; `cell`: side of a latent cell."""
    parts = [scored for scored in parts if len(scored.kept)]
    if not parts:  # no pixel is valid
        return PixelCounts().sparse()
    grid, source = parts[0].part.grid, parts[0].part.source
    try:
        heat = stitch(_score_map(parts), grid.width, grid.height, cell)
        return count_pixels(heat, grid.width, grid.height, partial(_classes, source)).sparse()
    except ImageError as error:
        return error


def _score_map(parts: list[ScoredPart]) -> ScoreMap:
    """The score map of an image from its parts."""
    places = [scored.part.grid.places(scored.part.block, scored.kept)[2:] for scored in parts]
    scores = np.concatenate([scored.score for scored in parts])
    cells = np.concatenate([scored.score_map for scored in parts if scored.score_map is not None])
    x, y, width, height = np.concatenate(places, axis=1)
    return ScoreMap(parts[0].part.tiling, x, y, width, height, scores, cells)


def _classes(source: SourceImage, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    classes = read_classes(source, x, y, width, height)
    if classes is None:
        raise ImageError("mask", "has neither mask nor label")
    return classes
