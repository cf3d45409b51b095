"""Finds images in different splits that look the same: figures on them would be figures on training images.

It compares small pictures that are kept with the tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq import logs
from ssvq.imagery.near_duplicates import SIDE, as_vector, close_pairs, shrink

FINE, FEW_TILES = 4, 1000  # with few tiles, one tile is placed to a quarter of a pixel of the small picture


@dataclass(frozen=True)
class Pair:
    """Two images that look the same: their paths and splits."""

    paths: tuple[str, str]
    splits: tuple[str, str]


def find_near_duplicates(index: pa.Table, splits: Mapping[str, str], tile_size: int) -> list[Pair]:
    """Pairs of images in different splits, by image_id, that look the same."""
    images = _small_images(index, splits, tile_size)
    ids = sorted(images, key=lambda image_id: images[image_id][0])
    pairs = close_pairs([images[image_id][1] for image_id in ids], [splits[image_id] for image_id in ids])
    named = [(ids[i], ids[j]) for i, j in pairs]
    return [Pair((images[a][0], images[b][0]), (splits[a], splits[b])) for a, b in named]


def tell_near_duplicates(index: pa.Table, splits: Mapping[str, str], tile_size: int) -> None:
    """Warn about pairs."""
    pairs = find_near_duplicates(index, splits, tile_size)
    if pairs:
        (a, b), (split_a, split_b) = pairs[0].paths, pairs[0].splits
        logs.warning(
            f"warning: {len(pairs)} pairs of images in different splits look the same, such as {a} ({split_a}) and {b} "
            f"({split_b}): remove one of each, or keep them together with --group-pattern or the manifest's group"
        )


def _small_images(
    index: pa.Table, splits: Mapping[str, str], tile_size: int
) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Path and small picture (a vector of length 1) of each image that has a split and is not flat, by image_id."""
    columns = [index[name].to_pylist() for name in ("image_id", "path", "x", "y", "width", "height", "small_picture")]
    tiles: dict[str, list[tuple[int, int, int, int, bytes]]] = {}
    paths: dict[str, str] = {}
    for image_id, path, x, y, width, height, picture in zip(*columns, strict=True):
        if picture is not None and image_id in splits:
            tiles.setdefault(image_id, []).append((x, y, width, height, picture))
            paths[image_id] = path
    found = {}
    for image_id, of_image in tiles.items():
        vector = as_vector(_join(of_image, tile_size))
        if vector is not None:
            found[image_id] = (paths[image_id], vector)
    return found


def _join(tiles: list[tuple[int, int, int, int, bytes]], tile_size: int) -> NDArray[np.uint8]:
    """The small picture of an image, joined from those of its tiles."""
    enlarged = FINE if len(tiles) <= FEW_TILES else 1
    scale = enlarged * SIDE / tile_size
    left, top = min(tile[0] for tile in tiles), min(tile[1] for tile in tiles)
    places = [(round((x - left) * scale), round((y - top) * scale)) for x, y, *_ in tiles]
    sizes = [(max(1, round(width * scale)), max(1, round(height * scale))) for _, _, width, height, _ in tiles]
    canvas_width = max(x + width for (x, _), (width, _) in zip(places, sizes, strict=True))
    canvas_height = max(y + height for (_, y), (_, height) in zip(places, sizes, strict=True))
    canvas = np.zeros((canvas_height, canvas_width), np.uint8)
    for (x, y), (width, height), (*_, picture) in zip(places, sizes, tiles, strict=True):
        shown = np.frombuffer(picture, np.uint8).reshape(SIDE, SIDE).repeat(enlarged, 0).repeat(enlarged, 1)
        canvas[y : y + height, x : x + width] = shown[:height, :width]
    return shrink(canvas)
