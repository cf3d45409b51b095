"""Held-out tiles score as they do in the scoring job, on one rank or several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ssvq.inference.scorer import TileScorer
from ssvq.methods.base import Method
from ssvq.methods.build import build_method, method_settings
from ssvq.model.description import Preprocessing
from ssvq.training.tile_reader import read_tile
from ssvq.training.validation import HeldOutTiles, score_held_out
from tests.support.surveys import tiny_training
from tests.support.tile_caches import TILE, write_tiles

PREPROCESSING = Preprocessing(tile_size=TILE, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
NUMBER = 7


def held_out(folder: Path) -> HeldOutTiles:
    pixels = np.random.default_rng(0).integers(0, 256, (NUMBER, TILE, TILE, 3), dtype=np.uint8)
    masks = np.zeros((NUMBER, TILE, TILE), bool)
    return HeldOutTiles(write_tiles(folder, "held out", pixels, masks), masks.any((1, 2)))


def untrained() -> Method:
    torch.manual_seed(0)
    config = tiny_training(Path("survey"), "out")
    return build_method(config.method, method_settings(config))


def scores_of(tiles: HeldOutTiles, folder: Path) -> np.ndarray:
    return score_held_out(tiles, str(folder), untrained(), PREPROCESSING, "fp32")


def one_rank(rank: int, folder: str, tiles: HeldOutTiles) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    np.save(Path(folder, f"{rank}.npy"), scores_of(tiles, Path(folder, "cache")))
    dist.destroy_process_group()


def test_ranks_share_the_tiles_and_all_know_every_score(tmp_path: Path) -> None:
    tiles = held_out(tmp_path / "cache")
    alone = scores_of(tiles, tmp_path / "cache")
    assert (alone > 0).all()
    mp.spawn(one_rank, (str(tmp_path), tiles), nprocs=3)
    for rank in range(3):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), alone, rtol=1e-6)


def test_padding_is_left_out(tmp_path: Path) -> None:
    tile = replace(held_out(tmp_path).tiles[0], width=8, height=12)
    scorer = TileScorer(untrained(), PREPROCESSING, 1, torch.device("cpu"), "fp32")
    own = np.zeros((1, TILE // 4, TILE // 4), bool)
    own[:, :3, :2] = True
    pixels = read_tile(str(tmp_path), tile, TILE)[0][None]
    scores = scores_of(HeldOutTiles([tile], np.array([False])), tmp_path)[:, 0]
    assert scores == pytest.approx(scorer.score(pixels, own).score, rel=1e-5)
    assert scores != pytest.approx(scorer.score(pixels).score, rel=1e-3)
