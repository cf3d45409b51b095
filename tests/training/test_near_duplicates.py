"""Images that look the same in different splits are told; others are not, also where all images look much alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import inspect, plan_units, read_unit
from ssvq.training.near_duplicates import Pair, find_near_duplicates, tell_near_duplicates
from ssvq.training.tile_cache import write_index, write_part
from tests.support.photographs import photograph, saved_again

TILE = 64


def index_of(folder: Path, pictures: dict[str, tuple[NDArray[np.uint8], str]]) -> tuple[pa.Table, dict[str, str]]:
    """The tile cache's index of pictures that are given with their splits, and these by image_id."""
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
    return index, {image.image_id: pictures[image.path][1] for image in images}


def pairs_of(folder: Path, pictures: dict[str, tuple[NDArray[np.uint8], str]]) -> list[Pair]:
    """The pairs among pictures, given with their splits."""
    return find_near_duplicates(*index_of(folder, pictures), TILE)


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


def test_they_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = {"a.png": (photograph(0), "train"), "c.png": (photograph(1), "test")}
    pictures |= {"b.png": (saved_again(photograph(0)), "test"), "d.png": (saved_again(photograph(1)), "validation")}
    tell_near_duplicates(*index_of(tmp_path, pictures), TILE)
    said = "warning: 2 pairs of images in different splits look the same, such as a.png (train) and b.png (test): "
    assert capsys.readouterr().err.startswith(said)
