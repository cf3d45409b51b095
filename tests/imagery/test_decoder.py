"""Reading in a child process: the same arrays, and an image that breaks its reader breaks nothing else."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.decoder import Decoder
from ssvq.imagery.grid import Tiling
from ssvq.imagery.settings import PART_PIXELS, ReadLimits
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, inspect, plan_units, read_unit
from tests.support import faulty_decoding
from tests.support.images import write_image

TILING = Tiling(tile_size=32, stride=32)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(ReadLimits(seconds=60))
    yield made
    made.close()


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(faulty_decoding.install(tmp_path / "faults")))


def survey(folder: Path, *names: str, side: int = 64) -> list[SourceImage]:
    rng = np.random.default_rng(1)
    for name in names:
        write_image(folder / name, rng.integers(0, 255, (side, side, 3), dtype=np.uint8))
    return list_images(str(folder), "--survey")


def plan(*sources: SourceImage, part_pixels: int = PART_PIXELS) -> list[list[ImagePart]]:
    return plan_units([(source, inspect(source)) for source in sources], TILING, part_pixels=part_pixels)


@pytest.fixture
def many_parts(tmp_path: Path) -> list[ImagePart]:
    """The one unit of an image that is read in several parts."""
    (unit,) = plan(*survey(tmp_path, "large.png", side=160), part_pixels=4 * 32 * 32)
    return unit


def same(one: TileArrays, other: TileArrays) -> bool:
    planes = [(one.pixels, other.pixels), (one.valid, other.valid), (one.classes, other.classes)]
    return one.area == other.area and all(
        (a is None and b is None) or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in planes
    )


def test_headers_and_tiles_are_those_of_reading_here(tmp_path: Path, decoder: Decoder) -> None:
    sources = survey(tmp_path, "a.png", "b.tif", "c.jpg")
    write_image(tmp_path / "d.png", np.zeros((20, 40, 4), np.uint8))  # transparent and padded
    sources = [replace(source, label="rust") for source in list_images(str(tmp_path), "--survey")]
    assert [decoder.inspect(source) for source in sources] == [inspect(source) for source in sources]
    for unit in plan(*sources):
        for (part, there), (expected, here) in zip(decoder.read(unit), read_unit(unit), strict=True):
            assert part == expected
            assert isinstance(there, TileArrays)
            assert isinstance(here, TileArrays)
            assert same(there, here)


def test_an_image_of_many_parts_is_read_one_part_ahead_at_most(decoder: Decoder, many_parts: list[ImagePart]) -> None:
    assert len(many_parts) > 5
    reading = decoder.read(many_parts)
    next(reading)
    time.sleep(1)
    assert decoder._child is not None
    handles = [path.readlink().as_posix() for path in Path(f"/proc/{decoder._child.pid}/fd").iterdir()]
    assert len([name for name in handles if "memfd" in name]) == 2, "what was read, and the part after it"
    for (_, tiles), (_, expected) in zip(reading, list(read_unit(many_parts))[1:], strict=True):
        assert isinstance(tiles, TileArrays)
        assert isinstance(expected, TileArrays)
        assert same(tiles, expected)


def test_errors_of_images_come_back_and_the_rest_goes_on(tmp_path: Path, decoder: Decoder) -> None:
    sources = survey(tmp_path, "a.png", "b.png", "c.png")
    units = plan(*sources)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    results = {part.source.path: result for part, result in decoder.read(units[0])}
    assert [name for name, result in results.items() if isinstance(result, ImageError)] == ["b.png"]
    (tmp_path / "note.png").write_text("no image")
    with pytest.raises(ImageError, match="known kind"):
        decoder.inspect(list_images(str(tmp_path), "--survey")[-1])


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("name", "seconds", "reason"),
    [
        ("crash header.png", 60, r"decoding crashed \(SIGSEGV\), 2 times"),
        ("hang.png", 1, r"decoding took over 1 s \(--read\.seconds\), 2 times"),
        ("hungry.png", 60, r"cannot be read in 512 MiB of memory \(--read\.memory\)"),
    ],
)
def test_an_image_that_breaks_its_reader_fails_after_two_tries(
    tmp_path: Path, name: str, seconds: float, reason: str
) -> None:
    sources = survey(tmp_path / "survey", "a.png", name, "z.png")
    decoder = Decoder(ReadLimits(seconds=seconds, memory=512))
    try:
        with pytest.raises(ImageError, match=reason) as error:
            decoder.inspect(next(source for source in sources if source.path == name))
        assert error.value.stage == "read"
        (unit,) = plan(*sources)
        if seconds > 1:  # a child that was ended starts within more than a second
            results = {part.source.path: result for part, result in decoder.read(unit)}
            assert isinstance(results["a.png"], TileArrays)
            assert isinstance(results["z.png"], TileArrays)
            assert isinstance(results[name], ImageError)
            assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    finally:
        decoder.close()


@pytest.mark.usefixtures("faulty")
def test_what_breaks_once_is_read_at_the_second_try(tmp_path: Path, decoder: Decoder) -> None:
    (source,) = survey(tmp_path / "survey", "once.png")
    assert decoder.inspect(source).width == 64
    (unit,) = plan(source)
    ((_, tiles),) = decoder.read(unit)
    assert isinstance(tiles, TileArrays)


def test_a_child_that_was_killed_while_idle_is_replaced(tmp_path: Path, decoder: Decoder) -> None:
    (source,) = survey(tmp_path, "a.png")
    header = decoder.inspect(source)
    assert decoder._child is not None
    psutil.Process(decoder._child.pid).kill()
    psutil.Process(decoder._child.pid).wait()
    assert decoder.inspect(source) == header


def test_a_reading_that_is_given_up_leaves_nothing_behind(decoder: Decoder, many_parts: list[ImagePart]) -> None:
    reading = decoder.read(many_parts)
    first, _ = next(reading)
    reading.close()  # type: ignore[attr-defined]
    again = [part for part, _ in decoder.read(many_parts)]
    assert again[0] == first
    assert len(again) == len(many_parts)
