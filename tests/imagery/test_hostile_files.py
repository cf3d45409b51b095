"""Files as they occur: cut short, damaged, mislabelled, or made to lead GDAL elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from ssvq.errors import ImageError
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster, read_header
from tests.support.images import write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
DEFLATE = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    "plain tif": ("a.tif", {}),
    "deflated tif": ("a.tif", DEFLATE),
    "jpeg in tif": ("a.tif", {"compress": "jpeg"}),
    "jpg": ("a.jpg", {}),
    "png": ("a.png", {}),
    "webp": ("a.webp", {}),
}


def read_all(path: Path) -> np.ndarray:
    with open_raster(str(path)) as dataset:
        read_header(dataset)
        return read_rgb(dataset, 0, 0, dataset.width, dataset.height)[0]


def refusal(path: Path) -> str:
    """The message with which a file is refused, after checking its form."""
    with pytest.raises(ImageError) as error:
        read_all(path)
    assert error.value.stage == "read"
    assert len(error.value.message.splitlines()) == 1
    assert str(path.parent) not in error.value.message, "the report names the image already"
    return error.value.message


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.002, 0.3, 0.7, 0.98])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    name, profile = FORMATS[kind]
    path = write_image(tmp_path / name, PIXELS, **profile)
    assert read_all(path).shape == PIXELS.shape
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "cannot be read as an image: " in refusal(path)


@pytest.mark.parametrize("kind", ["deflated tif", "png"])
def test_damaged_pixels_are_refused(tmp_path: Path, kind: str) -> None:
    name, profile = FORMATS[kind]
    path = write_image(tmp_path / name, PIXELS, **profile)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    assert "cannot be read as an image: " in refusal(path)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {kind: write_image(folder / kind / name, PIXELS, **profile) for kind, (name, profile) in FORMATS.items()}


@given(
    kind=st.sampled_from(sorted(FORMATS)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=4),
    keep=st.floats(0, 1),
)
def test_whatever_the_bytes_it_reads_or_is_refused(
    originals: dict[str, Path], kind: str, edits: list[tuple[float, bytes]], keep: float
) -> None:
    data = bytearray(originals[kind].read_bytes())
    for place, replacement in edits:
        # Headers decide most: half of the edits fall on the first bytes.
        start = int(place * 2 * 200) if place < 0.5 else int((place - 0.5) * 2 * len(data))
        data[start : start + len(replacement)] = replacement
    path = originals[kind].with_stem("edited")
    path.write_bytes(data[: int(len(data) * keep)] if keep < 0.9 else data)
    try:
        with open_raster(str(path)) as dataset:
            read_header(dataset)
            # A damaged header may claim any size: it is the reader of windows that bounds memory.
            read_rgb(dataset, 0, 0, min(dataset.width, 512), min(dataset.height, 512))
    except ImageError as error:
        if error.stage != "read":
            raise


def test_a_damaged_directory_behind_the_first_is_refused(tmp_path: Path) -> None:
    # GDAL looks for masks in the directories that follow, and rasterio lets its error through as it is.
    path = write_image(tmp_path / "a.tif", PIXELS)
    data = bytearray(path.read_bytes())
    directory = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[directory : directory + 2], "little")
    following = directory + 2 + 12 * entries
    data[following : following + 4] = (76).to_bytes(4, "little")
    path.write_bytes(data)
    assert "TIFFReadDirectory" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.tif", b"", "is empty"),
        ("text.png", b"not an image", "is not an image of a known kind"),
        ("page.jpg", b"<!DOCTYPE html><html>404</html>", "is not an image of a known kind"),
        ("one byte.jpg", b"\xff", "is not an image of a known kind"),
        ("magic.tif", b"II*\0", "cannot be read as an image"),
        ("magic.png", b"\x89PNG\r\n\x1a\n", "cannot be read as an image"),
        ("missing.png", None, "cannot be read as an image"),
        ("loop.tif", b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0", "cannot be read as an image"),
    ],
)
def test_what_is_no_image(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert reason in refusal(tmp_path / name)


def test_a_folder_with_the_name_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.tif").mkdir()
    assert "cannot be read as an image" in refusal(tmp_path / "a.tif")


def test_the_bytes_decide_and_not_the_suffix(tmp_path: Path) -> None:
    png = write_image(tmp_path / "a.png", PIXELS)
    shutil.copy(png, tmp_path / "a.tif")
    with open_raster(str(tmp_path / "a.tif")) as dataset:
        assert dataset.driver == "PNG"
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), PIXELS)


@pytest.mark.parametrize("name", ["a.vrt", "a.tif"])
def test_a_vrt_is_refused_before_gdal_sees_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_image(tmp_path / "other.png", PIXELS)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename>{other}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path = tmp_path / name
    path.write_text(f'<VRTDataset rasterXSize="128" rasterYSize="96">{bands}</VRTDataset>')
    with rasterio.open(path) as dataset:  # a trap that works
        np.testing.assert_array_equal(dataset.read(1), PIXELS[..., 0])
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("GDAL was asked"))
    assert "is not an image of a known kind" in refusal(path)


def test_sidecar_files_say_nothing(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", PIXELS)
    write_image(tmp_path / "mask.tif", np.zeros((96, 128), np.uint8)).rename(tmp_path / "a.png.msk")
    (tmp_path / "a.png.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>500000, 2, 0, 4000000, 0, -2</GeoTransform></PAMDataset>"
    )
    (tmp_path / "a.pgw").write_text("3\n0\n0\n-3\n500000\n4000000\n")
    with rasterio.open(path) as dataset:  # traps that work
        assert dataset.crs.to_epsg() == 32633
        assert len(dataset.files) == 4
    with open_raster(str(path)) as dataset:
        assert dataset.files == [str(path)]
        assert read_header(dataset).crs is None
        assert dataset.transform.is_identity
        pixels, valid = read_rgb(dataset, 0, 0, 128, 96)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert valid is None


@pytest.mark.filterwarnings("ignore:statistics:rasterio.errors.RasterioDeprecationWarning")
def test_reading_writes_no_file(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.jpg"):
        write_image(tmp_path / name, PIXELS)
        with open_raster(str(tmp_path / name)) as dataset:
            dataset.statistics(1)  # which GDAL would note beside the file
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "a.tif", "a.jpg"}


@pytest.mark.parametrize(
    "name", ["a b.tif", "it's.tif", 'say "x".tif', "grün.tif", "100%.tif", "a#1?.tif", "a:b!c.tif"]
)
def test_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(read_all(write_image(tmp_path / name, PIXELS)), PIXELS)


def test_errors_within_the_block_are_said_too(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", PIXELS, **DEFLATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_raster(str(path)) as dataset:
        read_rgb(dataset, 0, 0, 32, 32)  # the beginning is there
    with (
        pytest.raises(ImageError, match=r"cannot be read as an image: a\.tif, band 1: IReadBlock failed"),
        open_raster(str(path)) as dataset,
    ):
        read_rgb(dataset, 96, 64, 32, 32)
