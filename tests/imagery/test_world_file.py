"""World files and projections beside rasters, against GDAL, which finds them by itself where it may look."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine

from ssvq.errors import ImageError
from ssvq.imagery.catalog import list_images
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import inspect
from ssvq.imagery.world_file import with_companions
from ssvq.io.storage import ObjectInfo
from tests.support.images import write_image

PIXELS = np.zeros((20, 30, 3), np.uint8)
WORLD = "0.1\n0.02\n0.01\n-0.1\n500000.05\n5299999.95\n"
UTM = CRS.from_epsg(32632)
NAMES = st.from_regex(r"(d/)?[ab](\.[ab])?\.(jpg|prj|jgw|x)", fullmatch=True)


def write(folder: Path, name: str, world: str | None, projection: str | None = None) -> Path:
    path = write_image(folder / name, PIXELS)
    if world is not None:
        path.with_suffix(world).write_text(WORLD)
    if projection is not None:
        path.with_suffix(".prj").write_text(projection)
    return path


def only_header(folder: Path) -> ImageHeader:
    (image,) = list_images(str(folder), "--survey")
    return inspect(image)


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("a.tif", ".tfw"),
        ("a.tif", ".tifw"),
        ("a.tif", ".wld"),
        ("a.b.jpg", ".jgw"),
        ("a.PNG", ".PGW"),
        ("a.jpeg", ".jgw"),
    ],
)
@pytest.mark.parametrize("dialect", ["WKT1_ESRI", "WKT2_2019"])
def test_a_raster_lies_where_the_files_beside_it_say(tmp_path: Path, name: str, world: str, dialect: str) -> None:
    path = write(tmp_path, name.lower(), world, UTM.to_wkt(version=dialect))
    path.rename(tmp_path / name)
    with rasterio.open(tmp_path / name) as dataset:
        expected = dataset.transform
    found = only_header(tmp_path)
    assert found.crs == "EPSG:32632"
    if world in (".tfw", ".jgw", ".wld"):  # the others GDAL does not look for in every format
        assert found.transform == pytest.approx(tuple(expected)[:6])
    assert found.transform is not None
    assert Affine(*found.transform) * (0.5, 0.5) == pytest.approx((500000.05, 5299999.95))


def test_what_a_raster_says_itself_counts(tmp_path: Path) -> None:
    own = Affine(2, 0, 5, 0, -2, 5)
    path = write_image(tmp_path / "a.tif", PIXELS, transform=own, crs="EPSG:32633")
    path.with_suffix(".tfw").write_text(WORLD)
    path.with_suffix(".prj").write_text(UTM.to_wkt())
    found = only_header(tmp_path)
    assert (found.crs, found.transform) == ("EPSG:32633", tuple(own)[:6])


def test_a_projection_alone_goes_with_the_transform_of_the_raster(tmp_path: Path) -> None:
    own = Affine(2, 0, 5, 0, -2, 5)
    write_image(tmp_path / "a.tif", PIXELS, transform=own).with_suffix(".prj").write_text(UTM.to_wkt())
    found = only_header(tmp_path)
    assert (found.crs, found.transform) == ("EPSG:32632", tuple(own)[:6])


def test_a_projection_without_any_transform_is_no_place(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", None, UTM.to_wkt())
    assert (only_header(tmp_path).crs, only_header(tmp_path).transform) == (None, None)


def test_a_world_file_without_a_projection_is_no_place(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", ".jgw")
    assert only_header(tmp_path).crs is None


@pytest.mark.parametrize(
    ("suffix", "text", "reason"),
    [
        (".tfw", "1\n2\n3\n", "not six numbers"),
        (".tfw", "0\n0\n0\n0\n5\n5\n", "its pixels have no size"),
        (".tfw", "one\n0\n0\n1\n5\n5\n", "could not convert"),
        (".prj", "a town in the north", ""),
        (".prj", "x" * 200_000, "has 200000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, suffix: str, text: str, reason: str) -> None:
    path = write(tmp_path, "a.tif", ".tfw", UTM.to_wkt())
    path.with_suffix(suffix).write_text(text)
    with pytest.raises(ImageError, match=rf"^a\{suffix} beside it cannot be read \(.*{reason}.*\): repair or"):
        only_header(tmp_path)


def test_a_change_of_either_changes_the_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tif", ".tfw", UTM.to_wkt())
    seen = {list_images(str(tmp_path), "--survey")[0].fingerprint}
    for suffix in (".tfw", ".prj"):
        beside = path.with_suffix(suffix)
        beside.write_text(beside.read_text() + "\n")
        seen.add(list_images(str(tmp_path), "--survey")[0].fingerprint)
    assert len(seen) == 3
    assert list_images(str(tmp_path), "--survey")[0].version in seen.pop()


@given(names=st.sets(NAMES, max_size=12))
def test_companions_are_the_files_of_the_same_stem(names: set[str]) -> None:
    files = [ObjectInfo(name, 1, "1") for name in sorted(names)]
    found = {file.path: {other.path for other in others} for file, others in with_companions(files)}
    assert list(found) == sorted(names)
    for name in names:
        stem = name.rpartition(".")[0]
        assert found[name] == {other for other in names if other.rpartition(".")[0] == stem} - {name}
