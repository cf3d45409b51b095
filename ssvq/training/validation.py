"""Scoring held-out tiles of the tile cache during a training, shared among the ranks."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ssvq.imagery.grid import CELL
from ssvq.imagery.tiles import valid_cells
from ssvq.methods.base import Method
from ssvq.model.bundle import Preprocessing
from ssvq.model.ranks import rank, world_size
from ssvq.scoring.scorer import TileScorer
from ssvq.training.tile_cache import TileRef, read_tile

BATCH_PIXELS = 4 * 512**2  # in a batch of the model, whatever the tile size


@dataclass(frozen=True)
class HeldOutTiles:
    """Tiles that the training does not see, and which of them are anomalous, bool (n,)."""

    tiles: list[TileRef]
    anomalous: NDArray[np.bool_]


def score_held_out(
    held_out: HeldOutTiles, cache: str, method: Method, preprocessing: Preprocessing, precision: str
) -> NDArray[np.float64]:
    """Scores of the tiles, float64 (n,), the same on every rank."""
    device = next(itertools.chain(method.parameters(), method.buffers())).device  # a kernel method has no weights
    size = preprocessing.tile_size
    scorer = TileScorer(method, preprocessing, max(1, BATCH_PIXELS // size**2), device, precision)
    scores = np.zeros(len(held_out.tiles))
    mine = np.arange(rank(), len(scores), world_size())
    for start in range(0, len(mine), scorer.batch_size):
        rows = mine[start : start + scorer.batch_size]
        tiles = [held_out.tiles[row] for row in rows]
        pixels = np.stack([read_tile(cache, tile, size)[0] for tile in tiles])
        scores[rows] = scorer.score(pixels, _own_cells(tiles, size)).score
    if world_size() > 1:
        gathered = torch.from_numpy(scores).to(device)
        dist.all_reduce(gathered)
        scores = gathered.cpu().numpy()
    return scores


def _own_cells(tiles: list[TileRef], tile_size: int) -> NDArray[np.bool_] | None:
    """Which cells lie within the image and not in the padding of a small one, bool (n, h, w); None for all."""
    if all(tile.width == tile.height == tile_size for tile in tiles):
        return None
    own = np.zeros((len(tiles), tile_size, tile_size), bool)
    for plane, tile in zip(own, tiles, strict=True):
        plane[: tile.height, : tile.width] = True
    return valid_cells(own, CELL)
