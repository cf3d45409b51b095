"""Labelled tiles as images to train on: windows of their rasters, with the label that a person gave."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely

from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import Mask, SourceImage, list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.tile_labels import LABELS, add_labelled_tiles
from ssvq.imagery.units import ImagePart, inspect, plan_units, read_unit
from ssvq.io import parquet, storage
from ssvq.training.tile_cache import cache_key
from tests.support.images import write_image

TILE = 16


@pytest.fixture
def images(tmp_path: Path) -> list[SourceImage]:
    """Two images of 40 x 24 pixels that differ everywhere."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    return list_images(str(tmp_path / "images"), "--images")


def write_labels(path: Path, *rows: dict[str, Any]) -> str:
    common = {"x": 0, "y": 0, "width": TILE, "height": TILE, "label": "normal", "who": "Ada", "when": datetime.now(UTC)}
    storage.put(str(path), parquet.encode(pa.Table.from_pylist([common | row for row in rows], LABELS)))
    return str(path)


def of(image: SourceImage, **changes: Any) -> dict[str, Any]:
    return {"image_uri": image.uri, "fingerprint": image.fingerprint} | changes


def test_a_labelled_tile_is_the_window_of_its_image(images: list[SourceImage], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.parquet", of(images[1], x=24, y=8, label="anomalous"), of(images[1]))
    found, unusable = add_labelled_tiles(images, labels, TILE, None)
    assert unusable == []
    assert [image.window for image in found] == [None, None, (24, 8, 16, 16), (0, 0, 16, 16)]
    assert len({image.image_id for image in found}) == 4
    tiles = found[2:]
    assert {(image.split, image.group) for image in tiles} == {("train", images[1].uri)}
    assert [image.group for image in found[:2]] == [None, images[1].uri], "the whole image trains too"

    units = plan_units([(tile, inspect(tile)) for tile in tiles], Tiling(tile_size=TILE, stride=TILE))
    read = [result for unit in units for _, result in read_unit(unit)]
    whole = plan_units([(images[1], inspect(images[1]))], Tiling(tile_size=TILE, stride=8))
    (_, every) = next(read_unit(whole[0]))
    assert not any(isinstance(result, ImageError) for result in (*read, every))
    by_place = {(tile.x, tile.y): i for i, tile in enumerate(whole[0][0].grid.tiles(whole[0][0].block))}
    for result, place, anomalous in zip(read, [(24, 8), (0, 0)], [1.0, 0.0], strict=True):
        np.testing.assert_array_equal(result.pixels[0], every.pixels[by_place[place]])
        assert result.anomalous_fraction.tolist() == [anomalous]


@pytest.mark.parametrize(
    ("label", "x", "fraction"), [("anomalous", 0, 0.25), ("anomalous", 24, 1.0), ("normal", 0, 0.0)]
)
def test_an_anomalous_tile_keeps_what_the_mask_shows_of_it(
    images: list[SourceImage], tmp_path: Path, label: str, x: int, fraction: float
) -> None:
    mask = np.zeros((24, 40), np.uint8)
    mask[:8, :8] = 1
    masked = [
        SourceImage(**(vars(images[0]) | {"mask": Mask(str(write_image(tmp_path / "m.png", mask)))})),
        images[1],
    ]
    (*_, tile), _ = add_labelled_tiles(
        masked, write_labels(tmp_path / "l.parquet", of(images[0], x=x, label=label)), TILE, None
    )
    unit = plan_units([(tile, inspect(tile))], Tiling(tile_size=TILE, stride=TILE))[0]
    (_, result) = next(read_unit(unit))
    assert not isinstance(result, ImageError)
    assert result.anomalous_fraction.tolist() == [fraction]


@pytest.mark.parametrize("label", ["normal", "anomalous"])
def test_a_label_with_an_outline_is_of_that_part_of_its_tile(
    images: list[SourceImage], tmp_path: Path, label: str
) -> None:
    """Whatever the image's mask says: what is known of the tile is the label of the part."""
    mask = write_image(tmp_path / "m.png", np.ones((24, 40), np.uint8))
    masked = [SourceImage(**(vars(images[0]) | {"mask": Mask(str(mask))})), images[1]]
    outline = shapely.to_wkb(shapely.box(26, 10, 34, 14))
    labels = write_labels(tmp_path / "l.parquet", of(images[0], x=24, y=8, label=label, outline=outline))
    (*_, tile), unusable = add_labelled_tiles(masked, labels, TILE, None)
    assert unusable == []
    assert (tile.label, tile.mask) == ("good" if label == "normal" else "anomalous", None)
    for tiling, scale in ((Tiling(tile_size=TILE, stride=TILE), 1), (Tiling(tile_size=32, stride=32, whole=True), 2)):
        unit = plan_units([(tile, inspect(tile))], tiling)[0]
        (_, result) = next(read_unit([ImagePart.from_json(part.to_json()) for part in unit]))
        assert not isinstance(result, ImageError)
        expected = np.zeros((16 * scale, 16 * scale), bool)
        expected[2 * scale : 6 * scale, 2 * scale : 10 * scale] = True
        np.testing.assert_array_equal(result.classes[0] > 0, expected)


def test_two_labels_of_parts_of_a_tile_are_two_samples(images: list[SourceImage], tmp_path: Path) -> None:
    parts = {"normal": shapely.box(0, 0, 4, 4), "anomalous": shapely.box(8, 8, 12, 12)}
    rows = [of(images[0], label=label, outline=shapely.to_wkb(part)) for label, part in parts.items()]
    found, _ = add_labelled_tiles(images, write_labels(tmp_path / "l.parquet", *rows), TILE, None)
    tiles = found[2:]
    assert len({tile.image_id for tile in tiles}) == 2
    rule = PixelRule()
    tiling = Tiling(tile_size=TILE, stride=TILE)
    assert cache_key(tiles[:1], tiling, rule) != cache_key([replace(tiles[0], region=None)], tiling, rule)


def test_a_table_of_before_has_no_outlines(images: list[SourceImage], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.parquet", of(images[0]))
    parquet.put(labels, parquet.read(labels).drop_columns("outline"))
    found, _ = add_labelled_tiles(images, labels, TILE, None)
    assert found[-1].region is None


def test_tiles_whose_image_is_gone_or_changed_or_too_small_are_said(images: list[SourceImage], tmp_path: Path) -> None:
    gone = {"image_uri": str(tmp_path / "gone.png"), "fingerprint": "f"}
    rows = [gone, of(images[0], fingerprint="old"), of(images[1], x=30)]
    found, unusable = add_labelled_tiles(images, write_labels(tmp_path / "l.parquet", *rows), TILE, None)
    assert [error.message for _, error in unusable] == [
        "was labelled, but its image does not exist",
        "was labelled, but its image has changed since",
    ]
    with pytest.raises(ImageError, match="is not within its image of 40x24 pixels"):
        inspect(found[-1])


def test_a_table_that_cannot_be_used_is_one_line(images: list[SourceImage], tmp_path: Path) -> None:
    for address, said in (
        (str(tmp_path / "none.parquet"), "does not exist; `ssvq label` makes it"),
        (images[0].uri, "is not a Parquet file"),
        (write_labels(tmp_path / "empty.parquet"), "has no label"),
        (write_labels(tmp_path / "odd.parquet", of(images[0], label="rust")), "has the label 'rust'; allowed: normal"),
        (write_labels(tmp_path / "big.parquet", of(images[0], width=32)), "train with --tile-size 32"),
    ):
        with pytest.raises(InputError, match=said):
            add_labelled_tiles(images, address, TILE, None)
