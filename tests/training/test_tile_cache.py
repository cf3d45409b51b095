"""The tile cache gives back what was cut, and is never mistaken for another or for a whole one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssvq.errors import ImageError
from ssvq.imagery.catalog import Mask, SourceImage
from ssvq.imagery.grid import TileBlock, Tiling
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, inspect, read_unit, split_image
from ssvq.io import storage
from ssvq.training.tile_cache import (
    CHANNELS,
    INDEX,
    INDEX_SCHEMA,
    TileRef,
    cache_key,
    error_row,
    read_index,
    tile_refs,
    write_index,
    write_part,
    write_parts,
)
from ssvq.training.tile_reader import crop_of_mask, read_tile, tile_pixels
from tests.support.images import write_image

TILING = Tiling(tile_size=16, stride=16)
SOURCE = SourceImage("/survey/a.png", "a.png", "10-1", 10, Mask("/masks/a.png"))


def cut(tmp_path: Path, width: int = 40, height: int = 24, seed: int = 0) -> tuple[ImagePart, TileArrays]:
    """A labelled image on disk, cut into its tiles."""
    rng = np.random.default_rng(seed)
    image = write_image(tmp_path / "a.png", rng.integers(0, 256, (height, width, 3), np.uint8))
    mask = write_image(tmp_path / "mask.png", rng.integers(0, 2, (height, width), np.uint8))
    source = SourceImage(str(image), "a.png", "1", image.stat().st_size, Mask(str(mask)))
    (part,) = split_image(source, inspect(source), TILING)
    ((_, tiles),) = read_unit([part])
    assert isinstance(tiles, TileArrays)
    return part, tiles


def ref(row: dict[str, Any]) -> TileRef:
    return TileRef(row["file"], row["batch"], row["row"], row["width"], row["height"])


@pytest.mark.parametrize("size", [(40, 24), (16, 16), (10, 30)])
def test_pixels_and_masks_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    part, tiles = cut(tmp_path, *size)
    rows = write_part(str(tmp_path / "cache"), part, tiles)
    assert tiles.classes is not None
    assert len(rows) == len(tiles.pixels) == len(part.grid)
    for i, row in enumerate(rows):
        pixels, mask = read_tile(str(tmp_path / "cache"), ref(row), 16)
        np.testing.assert_array_equal(pixels, tiles.pixels[i])
        np.testing.assert_array_equal(mask, tiles.classes[i] > 0)
        assert (pixels.dtype, mask.dtype) == (np.uint8, bool)


@given(st.integers(1, 5).map(lambda n: 4 * n), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_masks_of_any_size_come_back(tmp_path_factory: pytest.TempPathFactory, side: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(seed)
    part, _ = cut(folder, side, side)
    part = replace(part, tiling=Tiling(tile_size=side, stride=side), block=TileBlock(0, 1, 0, 1))
    pixels = rng.integers(0, 256, (1, side, side, 3), np.uint8)
    mask = rng.random((1, side, side)) < 0.5
    (row,) = write_part(str(folder), part, TileArrays(pixels, None, mask.astype(np.uint8), side**2))
    assert row["anomalous_fraction"] == pytest.approx(mask.mean())
    found = read_tile(str(folder), ref(row), side)
    np.testing.assert_array_equal(found[0], pixels[0])
    np.testing.assert_array_equal(found[1], mask[0])


def test_the_index_says_where_a_tile_is_and_what_is_in_it(tmp_path: Path) -> None:
    part, tiles = cut(tmp_path)
    write_index(str(tmp_path / "cache"), write_part(str(tmp_path / "cache"), part, tiles))
    table = read_index(str(tmp_path / "cache"))
    assert table is not None
    assert table.schema == INDEX_SCHEMA
    for row, tile in zip(table.to_pylist(), part.grid.tiles(part.block), strict=True):
        assert {name: row[name] for name in ("x", "y", "width", "height")} == {
            "x": tile.x,
            "y": tile.y,
            "width": tile.width,
            "height": tile.height,
        }
        assert (row["image_id"], row["path"]) == (part.source.image_id, "a.png")
        assert row["error_stage"] is None
        pixels, mask = read_tile(str(tmp_path / "cache"), ref(row), 16)
        assert row["valid_fraction"] == 1
        assert row["anomalous_fraction"] == pytest.approx(mask.mean(), rel=1e-6)
        scaled = pixels.reshape(-1, 3) / 255
        for name, values in (("mean", scaled), ("mean_square", scaled**2)):
            found = [row[f"{name}_{channel}"] for channel in CHANNELS]
            np.testing.assert_allclose(found, values.mean(axis=0), rtol=1e-6)


def test_fractions_are_of_the_pixels_that_a_tile_has(tmp_path: Path) -> None:
    """Padding of a small image is neither invalid nor normal."""
    image = write_image(tmp_path / "a.png", np.zeros((8, 12, 3), np.uint8))
    mask = write_image(tmp_path / "mask.png", np.ones((8, 12), np.uint8))
    source = SourceImage(str(image), "a.png", "1", 1, Mask(str(mask)))
    (part,) = split_image(source, inspect(source), TILING)
    ((_, tiles),) = read_unit([part])
    assert isinstance(tiles, TileArrays)
    (row,) = write_part(str(tmp_path / "cache"), part, tiles)
    assert (row["width"], row["height"]) == (12, 8)
    assert row["valid_fraction"] == row["anomalous_fraction"] == 1


def test_parts_of_several_images_share_a_file(tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate(((40, 24), (16, 16), (10, 30))):
        folder = tmp_path / str(number)
        part, tiles = cut(folder, *size, seed=number)
        parts.append((replace(part, source=replace(part.source, path=f"{number}.png")), tiles))
    rows = write_parts(str(tmp_path / "cache"), parts)
    assert len({row["file"] for row in rows}) == 1
    assert rows == sorted(rows, key=lambda row: (row["batch"], row["row"]))
    expected = np.concatenate([tiles.pixels for _, tiles in parts])
    for row, pixels in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(read_tile(str(tmp_path / "cache"), ref(row), 16)[0], pixels)


@given(st.data())
@settings(max_examples=50)
def test_a_crop_of_the_mask_is_what_it_is_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    side = 4 * data.draw(st.integers(1, 7))
    size = data.draw(st.integers(1, side))
    y, x = (data.draw(st.integers(0, side - 1)) for _ in range(2))
    folder = tmp_path_factory.mktemp("cache")
    part, _ = cut(folder, side, side)
    part = replace(part, tiling=Tiling(tile_size=side, stride=side), block=TileBlock(0, 1, 0, 1))
    mask = np.random.default_rng(side).random((1, side, side)) < 0.5
    pixels = np.zeros((1, side, side, 3), np.uint8)
    (row,) = write_part(str(folder), part, TileArrays(pixels, None, mask.astype(np.uint8), side**2))
    found = crop_of_mask(str(folder), ref(row), side, y, x, size)
    np.testing.assert_array_equal(found, mask[0, y : y + size, x : x + size])


def test_a_crop_touches_little_of_its_file(tmp_path: Path) -> None:
    """Pages of the map that are in memory after a crop of 64 pixels, of a tile of 512."""
    side = 512
    part, _ = cut(tmp_path, side, side)
    part = replace(part, tiling=Tiling(tile_size=side, stride=side), block=TileBlock(0, 1, 0, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    (row,) = write_part(str(tmp_path / "cache"), part, TileArrays(pixels, None, pixels[..., 0] & 1, side**2))
    found = tile_pixels(str(tmp_path / "cache"), ref(row), side)
    assert not found.flags.owndata
    assert not found.flags.writeable
    np.testing.assert_array_equal(found[100:164, 37:101], pixels[0, 100:164, 37:101])


def test_a_clean_tile_is_known_from_the_index(tmp_path: Path) -> None:
    part, tiles = cut(tmp_path)
    assert tiles.classes is not None
    classes = tiles.classes.copy()
    classes[1] = 0
    rows = write_part(str(tmp_path / "cache"), part, replace(tiles, classes=classes))
    refs = tile_refs(pa.Table.from_pylist(rows, INDEX_SCHEMA), np.arange(len(rows)))
    assert [found.is_clean for found in refs] == [i == 1 for i in range(len(rows))]


def test_an_index_with_failed_images_reads_back(tmp_path: Path) -> None:
    part, tiles = cut(tmp_path)
    folder = str(tmp_path / "cache")
    rows = [*write_part(folder, part, tiles), error_row(SOURCE, ImageError("read", "is torn"))]
    written = write_index(folder, rows)
    assert read_index(folder) == written
    assert not any(pa.types.is_nested(field.type) for field in INDEX_SCHEMA), "which not every pyarrow reads back"


def test_redness_is_that_of_the_tile(tmp_path: Path) -> None:
    part, tiles = cut(tmp_path)
    for row, pixels in zip(write_part(str(tmp_path / "cache"), part, tiles), tiles.pixels, strict=True):
        difference = pixels[..., 0].astype(int) - pixels[..., 2]
        assert row["redness"] == pytest.approx(difference.mean(), abs=1e-3)
        assert row["redness_p90"] == pytest.approx(np.percentile(difference, 90), abs=1e-3)


def test_the_index_is_sorted_whatever_the_order_of_the_tasks(tmp_path: Path) -> None:
    part, tiles = cut(tmp_path)
    rows = [*write_part(str(tmp_path / "cache"), part, tiles), error_row(SOURCE, ImageError("read", "is torn"))]
    first = write_index(str(tmp_path / "cache"), rows)
    again = write_index(str(tmp_path / "cache"), rows[::-1])
    assert first.drop_columns(["error_message"]) == again.drop_columns(["error_message"])
    assert sorted(first["error_message"].to_pylist(), key=str) == [*[None] * len(tiles.pixels), "is torn"]


def test_a_failed_image_has_one_row_with_why() -> None:
    row = error_row(SOURCE, ImageError("mask", "has no mask"))
    assert row == {
        "image_id": SOURCE.image_id,
        "path": "a.png",
        "error_stage": "mask",
        "error_message": "has no mask",
    }


# Wholeness and identity


def test_the_index_makes_the_cache_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "cache")
    part, tiles = cut(tmp_path)
    assert read_index(folder) is None
    rows = write_part(folder, part, tiles)
    assert read_index(folder) is None  # a crash here leaves tiles and no index
    put = storage.put
    order: list[str] = []
    monkeypatch.setattr(
        storage, "put", lambda location, *rest, **named: (order.append(location), put(location, *rest, **named))[1]
    )
    write_index(folder, rows)
    assert order == [f"{folder}/{INDEX}"]
    assert read_index(folder) is not None


def test_the_key_is_the_sources_their_labels_and_the_tiling() -> None:
    key = cache_key([SOURCE], TILING, AS_STORED)
    assert len(key) == 16
    assert key == cache_key([replace(SOURCE)], TILING, AS_STORED)
    others = [
        cache_key([replace(SOURCE, fingerprint="10-2")], TILING, AS_STORED),
        cache_key([replace(SOURCE, uri="/other/a.png")], TILING, AS_STORED),
        cache_key([replace(SOURCE, mask=Mask("/other/a.png"))], TILING, AS_STORED),
        cache_key([replace(SOURCE, mask=Mask("/masks/a.png", (2,)))], TILING, AS_STORED),
        cache_key([replace(SOURCE, mask=None, label="good")], TILING, AS_STORED),
        cache_key([replace(SOURCE, mask=None, label="crack")], TILING, AS_STORED),
        cache_key([SOURCE, replace(SOURCE, uri="/survey/b.png")], TILING, AS_STORED),
        cache_key([], TILING, AS_STORED),
        cache_key([SOURCE], TILING, PixelRule(bands=(3, 2, 1))),
        cache_key([SOURCE], TILING, PixelRule(value_range=(0, 10000))),
        cache_key([SOURCE], Tiling(tile_size=32, stride=16), AS_STORED),
        cache_key([SOURCE], Tiling(tile_size=16, stride=8), AS_STORED),
        cache_key([SOURCE], Tiling(tile_size=16, stride=16, whole=True), AS_STORED),
    ]
    assert len({key, *others}) == 1 + len(others)
    assert key == cache_key([replace(SOURCE, group="g", split="test")], TILING, AS_STORED), (
        "what is cut does not depend on it"
    )
