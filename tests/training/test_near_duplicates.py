"""Images that look the same in different splits are told; others are not, also where all images look much alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import inspect, plan_units, read_unit
from ssvq.training.near_duplicates import Pair, find_near_duplicates, tell_near_duplicates
from ssvq.training.tile_cache import INDEX_SCHEMA, write_index, write_part
from tests.support.photographs import photograph, saved_again

TILE = 64


def pairs_of(folder: Path, pictures: dict[str, tuple[NDArray[np.uint8], str]]) -> list[Pair]:
    """The pairs among pictures, given with their splits."""
    for name, (pixels, _) in pictures.items():
        Image.fromarray(pixels).save(folder / name)
    images = list_images(str(folder), "--images")
    tiling = Tiling(tile_size=TILE, stride=TILE)
    rows = []
    for unit in plan_units([(image, inspect(image)) for image in images], tiling):
        for part, tiles in read_unit(unit):
            tiles = replace(tiles, classes=np.zeros(tiles.pixels.shape[:3], np.uint8))
            rows += write_part(str(folder / "cache"), part, tiles)
    index = write_index(str(folder / "cache"), rows)
    return find_near_duplicates(index, {image.image_id: pictures[image.path][1] for image in images}, TILE)


def test_a_photograph_saved_again_in_another_split_is_found(tmp_path: Path) -> None:
    pictures = {f"{seed}.png": (photograph(seed), "train") for seed in range(6)}
    pictures |= {"again.png": (saved_again(photograph(2)), "test"), "same.png": (saved_again(photograph(3)), "train")}
    assert pairs_of(tmp_path, pictures) == [Pair(("2.png", "again.png"), ("train", "test"))]


def test_parts_in_one_pose_are_none(tmp_path: Path) -> None:
    pictures = {}
    for seed in range(8):
        part = photograph(0).astype(int)
        part[40:80, 60 + 5 * seed : 90 + 5 * seed] += 30
        pictures[f"{seed}.png"] = (np.clip(part, 0, 255).astype(np.uint8), "train" if seed % 2 else "test")
    assert pairs_of(tmp_path, pictures) == []


def test_flat_pictures_are_none(tmp_path: Path) -> None:
    pictures = {f"{i}.png": (np.full((80, 80, 3), 100 + i, np.uint8), "train" if i % 2 else "test") for i in range(4)}
    assert pairs_of(tmp_path, pictures) == []


def test_they_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [Pair(("a.jpg", "b.jpg"), ("train", "test")), Pair(("c.jpg", "d.jpg"), ("test", "validation"))]
    monkeypatch.setattr("ssvq.training.near_duplicates.find_near_duplicates", lambda *_: pairs)
    tell_near_duplicates(INDEX_SCHEMA.empty_table(), {}, TILE)
    said = "warning: 2 pairs of images in different splits look the same, such as a.jpg (train) and b.jpg (test): "
    assert capsys.readouterr().err.startswith(said)
