"""Scores held-out tiles of the tile cache during a training, shared among the ranks."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ssvq.imagery.tiles import valid_cells
from ssvq.inference.scorer import TileScorer
from ssvq.methods.base import Method
from ssvq.model.calibration import Column
from ssvq.model.description import Preprocessing
from ssvq.model.metrics import auroc
from ssvq.model.ranks import rank, world_size
from ssvq.training.tile_cache import TileRef
from ssvq.training.tile_reader import tile_pixels

BATCH_PIXELS = 4 * 512**2  # in a batch of the model, whatever the tile size is


@dataclass(frozen=True)
class HeldOutTiles:
    """Tiles that the training does not see, and which of them are anomalous, bool (n,)."""

    tiles: list[TileRef]
    anomalous: NDArray[np.bool_]


def score_held_out(
    held_out: HeldOutTiles, cache: str, method: Method, preprocessing: Preprocessing, precision: str
) -> NDArray[np.float64]:
    """`score` and `score_worst` of the tiles, float64 (n, 2), the same on every rank; the latter is NaN for a method
    without cells.
    """
    device = next(itertools.chain(method.parameters(), method.buffers())).device  # a kernel method has no weights
    size = preprocessing.tile_size
    scorer = TileScorer(method, preprocessing, max(1, BATCH_PIXELS // size**2), device, precision)
    scores = np.zeros((len(held_out.tiles), 2))
    mine = np.arange(rank(), len(scores), world_size())
    for start in range(0, len(mine), scorer.batch_size):
        rows = mine[start : start + scorer.batch_size]
        tiles = [held_out.tiles[row] for row in rows]
        pixels = np.stack([tile_pixels(cache, tile, size) for tile in tiles])
        found = scorer.score(pixels, _own_cells(tiles, size, preprocessing.cell))
        scores[rows] = np.stack([found.score, found.score_worst], axis=1)
    scorer.close()
    if world_size() > 1:
        gathered = torch.from_numpy(scores).to(device)
        dist.all_reduce(gathered)
        scores = gathered.cpu().numpy()
    return scores


def better_column(
    scores: NDArray[np.float64], anomalous: NDArray[np.bool_], decide_by: Column | Literal["auto"]
) -> tuple[Column, float]:
    """The column of scores (n, 2) that should decide, and its AUROC, which is NaN unless both classes are present."""
    figures: dict[Column, float] = {"score": auroc(scores[:, 0], anomalous)}
    if not np.isnan(scores[:, 1]).any():
        figures["score_worst"] = auroc(scores[:, 1], anomalous)
    if decide_by != "auto":
        return (decide_by, figures[decide_by]) if decide_by in figures else ("score", figures["score"])
    best = max(figures, key=lambda name: (figures[name], name == "score"))  # `score` on a tie, or if both are unknown
    return ("score", figures["score"]) if math.isnan(figures["score"]) else (best, figures[best])


def _own_cells(tiles: list[TileRef], tile_size: int, cell: int) -> NDArray[np.bool_] | None:
    """Cells within the image and not in the padding of a small one, bool (n, h, w); None for all."""
    if all(tile.width == tile.height == tile_size for tile in tiles):
        return None
    own = np.zeros((len(tiles), tile_size, tile_size), bool)
    for plane, tile in zip(own, tiles, strict=True):
        plane[: tile.height, : tile.width] = True
    return valid_cells(own, cell)
