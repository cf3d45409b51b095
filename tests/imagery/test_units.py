"""From images to units of work, and from units to tiles."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssvq.config import LabelledImages
from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage, list_images
from ssvq.imagery.grid import TileGrid, Tiling
from ssvq.imagery.layouts import find_images
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.tiles import TileArrays, valid_cells
from ssvq.imagery.units import IMAGES_IN_UNIT, ImagePart, inspect, plan_units, read_unit
from tests.support.images import write_image

TILING = Tiling(tile_size=32, stride=32)


def labelled(folder: Path) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    return find_images(LabelledImages(images=str(folder / "i"), masks=str(folder / "m")))


MAX_TILES = 128
PART_PIXELS = MAX_TILES * 32 * 32


def header(
    width: int, height: int, *, random_access: bool = False, file_block: tuple[int, int] = (1, 1)
) -> ImageHeader:
    return ImageHeader(width, height, 3, "uint8", "PNG", None, None, random_access, file_block, None, None, None, None)


def read_all(*sources: SourceImage) -> list[tuple[ImagePart, TileArrays | ImageError]]:
    units = plan_units([(source, inspect(source)) for source in sources], TILING, part_pixels=PART_PIXELS)
    return [result for unit in units for result in read_unit(unit)]


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900), st.booleans()), max_size=8))
def test_every_tile_is_in_exactly_one_unit(images: list[tuple[int, int, bool]]) -> None:
    sources = [
        (SourceImage(f"/{i}", f"{i}", "v", 1), header(w, h, random_access=access))
        for i, (w, h, access) in enumerate(images)
    ]
    units = plan_units(sources, TILING, part_pixels=PART_PIXELS)
    seen = Counter(
        (part.source.path, tile.row, tile.col)
        for unit in units
        for part in unit
        for tile in part.grid.tiles(part.block)
    )
    assert set(seen.values()) <= {1}
    assert len(seen) == sum(len(TileGrid(h.width, h.height, TILING)) for _, h in sources)
    for unit in units:
        assert all(len(part.block) <= MAX_TILES for part in unit)
        several_images = len({part.source for part in unit}) > 1
        assert not several_images or sum(len(part.block) for part in unit) <= MAX_TILES
        # A part of a larger image that allows windows is a unit of its own; of one that does not, they stay together.
        if unit[0].count > 1:
            assert len(unit) == (1 if unit[0].header.random_access else unit[0].count)


def test_a_part_travels_as_json() -> None:
    part = plan_units(
        [
            (
                SourceImage("/a b'ü.png", "a b'ü.png", "v", 1, Mask("/m.png", (2, 3)), "rust", "part 7", "test"),
                header(70, 40),
            )
        ],
        TILING,
    )[0][0]
    assert ImagePart.from_json(part.to_json()) == part


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (65, 97), (20, 50), (7, 5), (200, 33)])
def test_tiles_are_slices_of_the_image(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = rng.integers(0, 2, size, dtype=np.uint8)
    write_image(tmp_path / "i" / "a.png", pixels)
    write_image(tmp_path / "m" / "a.png", mask)
    (source,), _ = labelled(tmp_path)
    for part, result in read_all(source):
        assert isinstance(result, TileArrays)
        assert result.classes is not None
        for i, tile in enumerate(part.grid.tiles(part.block)):
            own = np.s_[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            np.testing.assert_array_equal(result.pixels[i, : tile.height, : tile.width], pixels[own])
            np.testing.assert_array_equal(result.classes[i, : tile.height, : tile.width], mask[own])
            assert result.valid_fraction[i] == 1, "padding is neither valid nor counted"
            assert result.anomalous_fraction[i] == pytest.approx((mask[own] > 0).mean())


def test_a_bad_image_between_good_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in "abc":
        write_image(tmp_path / f"{name}.png", rng.integers(0, 255, (200, 200, 3), dtype=np.uint8))
    sources = list_images(str(tmp_path), "--survey")
    headers = [(source, inspect(source)) for source in sources]
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 3])  # broken after it was listed
    results = [result for unit in plan_units(headers, TILING, part_pixels=PART_PIXELS) for result in read_unit(unit)]
    assert [part.source.path for part, _ in results] == ["a.png", "b.png", "c.png"]
    assert [isinstance(result, ImageError) for _, result in results] == [False, True, False]


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    for name in ("fits", "other size", "unreadable", "without"):
        write_image(tmp_path / "i" / f"{name}.jpg", np.zeros((40, 50, 3), np.uint8))
    write_image(tmp_path / "m" / "fits.png", np.zeros((40, 50), np.uint8))
    write_image(tmp_path / "m" / "other size.png", np.zeros((50, 40), np.uint8))
    (tmp_path / "m" / "unreadable.png").write_bytes(b"?")
    paired, missing = labelled(tmp_path)
    assert [source.path for source, _ in missing] == ["without.jpg"]
    assert "without.png" in missing[0][1].message
    inspect(paired[0])
    with pytest.raises(ImageError, match="mask is 40x50 but the image is 50x40") as error:
        inspect(paired[1])
    assert error.value.stage == "mask"
    with pytest.raises(ImageError, match=r"mask unreadable\.png") as error:
        inspect(paired[2])
    assert error.value.stage == "mask"


@pytest.mark.parametrize("form", ["palette", "grey", "colour", "alpha"])
def test_every_value_of_a_mask_but_nought_is_anomalous(tmp_path: Path, form: str) -> None:
    classes = np.array([[0, 1], [2, 3]], np.uint8).repeat(16, 0).repeat(16, 1)
    masks = {
        "palette": classes,
        "grey": classes * 80,
        "colour": np.dstack([classes * 0, classes * 0, classes]),
        "alpha": np.dstack([classes, classes, classes, np.full_like(classes, 255)]),
    }
    write_image(tmp_path / "i" / "a.png", np.zeros((32, 32, 3), np.uint8))
    write_image(tmp_path / "m" / "a.png", masks[form])
    (source,), _ = labelled(tmp_path)
    ((_, result),) = read_all(source)
    assert isinstance(result, TileArrays)
    assert result.classes is not None
    np.testing.assert_array_equal(result.classes[0] > 0, classes > 0)


def test_cells_that_touch_an_invalid_pixel_are_not_valid() -> None:
    valid = np.ones((1, 8, 12), bool)
    valid[0, 3, 4] = False
    np.testing.assert_array_equal(valid_cells(valid, 4), [[[True, False, True], [True, True, True]]])


def test_listing(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c d'é.tiff", "note.txt", ".hidden.png", ".cache/x.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    images = list_images(str(tmp_path), "--survey")
    assert [image.path for image in images] == ["a/c d'é.tiff", "b.JPG"]
    elsewhere = SourceImage("s3://other/b.JPG", "b.JPG", "v", 1)
    assert images[1].image_id == elsewhere.image_id, "the identity is the path within the survey"
    before = images[1].fingerprint
    (tmp_path / "b.JPG").write_bytes(b"xy")
    assert list_images(str(tmp_path), "--survey")[1].fingerprint != before
    with pytest.raises(InputError, match=r"--survey .*nowhere is not a folder"):
        list_images(str(tmp_path / "nowhere"), "--survey")


def test_small_images_share_a_unit_until_it_is_full() -> None:
    images = [(SourceImage(f"/{i}", f"{i}", "v", 1), header(64, 32)) for i in range(MAX_TILES // 2 + 1)]
    assert [len(unit) for unit in plan_units(images, TILING, part_pixels=PART_PIXELS)] == [MAX_TILES // 2, 1]
    smaller = Tiling(tile_size=16, stride=16)
    images = [(SourceImage(f"/{i}", f"{i}", "v", 1), header(16, 16)) for i in range(IMAGES_IN_UNIT + 1)]
    assert [len(unit) for unit in plan_units(images, smaller, part_pixels=PART_PIXELS)] == [IMAGES_IN_UNIT, 1]


def test_a_part_has_as_many_pixels_whatever_the_tile_size() -> None:
    images = [(SourceImage("/a", "a", "v", 1), header(2048, 2048, random_access=True, file_block=(64, 64)))]
    for size in (16, 32, 64):
        units = plan_units(images, Tiling(tile_size=size, stride=size), part_pixels=PART_PIXELS)
        assert {len(part.block) * size**2 for (part,) in units} == {MAX_TILES * 32 * 32}


@pytest.mark.parametrize(("name", "units"), [("a.tif", 4), ("a.png", 1)])
def test_bands_of_a_large_image_before_the_damage_are_read(tmp_path: Path, name: str, units: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    path = write_image(tmp_path / name, pixels)
    (source,) = list_images(str(tmp_path), "--survey")
    planned = plan_units([(source, inspect(source))], TILING, part_pixels=4 * 32 * 32)
    assert len(planned) == units
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    results = [result for unit in planned for result in read_unit(unit)]
    assert [part.index for part, _ in results] == [0, 1, 2, 3]
    assert [isinstance(result, ImageError) for _, result in results] == [False, False, True, True]


def test_a_label_without_a_mask_holds_for_every_tile(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 50, 3), np.uint8))
    (source,) = list_images(str(tmp_path), "--images")
    for label, fraction in ((NORMAL_LABEL, 0), ("crack", 1)):
        ((_, tiles),) = read_all(replace(source, label=label))
        assert isinstance(tiles, TileArrays)
        assert set(tiles.anomalous_fraction) == {fraction}, "padding has no label"
    ((_, tiles),) = read_all(source)
    assert isinstance(tiles, TileArrays)
    assert tiles.classes is None


@pytest.mark.parametrize("damaged", ["i", "m"])
def test_the_damaged_one_of_image_and_mask_is_named(tmp_path: Path, damaged: str) -> None:
    noise = np.random.default_rng(1).integers(0, 2, (200, 200), dtype=np.uint8) * np.uint8(255)
    for folder in ("i", "m"):
        write_image(tmp_path / folder / "a.png", noise)
    (source,), _ = labelled(tmp_path)
    planned = plan_units([(source, inspect(source))], TILING, part_pixels=PART_PIXELS)
    path = tmp_path / damaged / "a.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])  # the header is whole
    ((_, error),) = read_unit(planned[0])
    assert isinstance(error, ImageError)
    assert error.stage == {"i": "read", "m": "mask"}[damaged]
    assert ("mask a.png" in error.message) == (damaged == "m")


def test_a_whole_image_is_one_tile_of_all_its_pixels(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    pixels = np.kron(blocks, np.ones((3, 5), np.uint8))
    write_image(tmp_path / "i" / "a.png", pixels)
    write_image(tmp_path / "m" / "a.png", (pixels > 127).astype(np.uint8))
    (source,), _ = labelled(tmp_path)
    tiling = Tiling(tile_size=32, stride=32, whole=True)
    ((part,),) = plan_units([(source, inspect(source))], tiling, part_pixels=PART_PIXELS)
    ((_, tiles),) = read_unit([part])
    assert isinstance(tiles, TileArrays)
    np.testing.assert_array_equal(tiles.pixels[0, ..., 0], blocks)
    assert tiles.classes is not None
    np.testing.assert_array_equal(tiles.classes[0] > 0, blocks > 127)
    assert tiles.anomalous_fraction[0] == pytest.approx((blocks > 127).mean())
    (tile,) = part.grid.tiles(part.block)
    assert (tile.x, tile.y, tile.width, tile.height) == (0, 0, 160, 96)
