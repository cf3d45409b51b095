"""What the header of an image says, against rasterio."""

import math
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_gcps

from ssvq.errors import ImageError
from ssvq.imagery.catalog import list_images
from ssvq.imagery.exif import exif_time, orientation, place
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import MAX_BANDS, MAX_PIXELS, ImageHeader, open_raster, open_with_file, read_header
from ssvq.imagery.units import inspect
from tests.support.images import write_image

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)


def header(path: Path) -> ImageHeader:
    with open_with_file(str(path)) as (dataset, file):
        return read_header(dataset, file)


def test_a_rotated_affine_is_kept(tmp_path: Path) -> None:
    affine = Affine.translation(500_000, 4_000_000) * Affine.rotation(30) * Affine.scale(0.5, -0.5)
    found = header(write_image(tmp_path / "a.tif", GREY, crs="EPSG:32633", transform=affine))
    assert found.transform == pytest.approx(tuple(affine)[:6])


def test_ground_control_points_become_their_affine(tmp_path: Path) -> None:
    affine = Affine(0.01, 0.002, 10.0, 0.001, -0.01, 50.0)
    corners = [(0, 0), (30, 0), (30, 20), (0, 20)]
    points = [GroundControlPoint(row, col, *(affine * (col, row))) for col, row in corners]
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=30, height=20, count=1, dtype="uint8") as dataset:
        dataset.write(GREY, 1)
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
    found = header(path)
    assert found.crs == "EPSG:4326"
    assert found.transform == pytest.approx(tuple(affine)[:6])


def test_a_transform_without_crs_is_no_georeference(tmp_path: Path) -> None:
    found = header(write_image(tmp_path / "a.tif", GREY, transform=Affine(2, 0, 5, 0, -2, 5)))
    assert (found.crs, found.transform) == (None, None)


@pytest.mark.parametrize(
    ("latitude", "north", "longitude", "east", "expected"),
    [
        ("(46) (50) (34.3126)", "N", "(91) (59) (37.308)", "W", (46.84286461, -91.99369667)),
        ("(33) (30) (0)", " s ", "(10) (0) (0)", "W", (-33.5, -10.0)),
        ("(0) (0) (0)", "N", "(10) (0) (0)", "E", (0.0, 10.0)),
        ("(0) (0) (0)", "N", "(0) (0) (0)", "E", None),  # no fix
        ("(33) (30) (0)", "", "(10) (0) (0)", "W", None),
        ("(33) (30) (0)", "S", "(10) (0) (0)", "?", None),
        ("(33) (30) (0)", "S", "", "W", None),
        ("(46) (50)", "N", "(10) (0) (0)", "W", None),
        ("(46) (50) (3) (4)", "N", "(10) (0) (0)", "W", None),
        ("(-46) (50) (3)", "N", "(10) (0) (0)", "W", None),
        ("(46) (50) (3)", "N", "(181) (0) (0)", "E", None),
        ("(1e9) (0) (0)", "N", "(10) (0) (0)", "W", None),
        ("(1.2.3) (0) (0)", "N", "(10) (0) (0)", "W", None),
        ("(nan) (nan) (nan)", "N", "(10) (0) (0)", "W", None),
    ],
)
def test_a_place_needs_a_fix_and_both_hemispheres(
    latitude: str, north: str, longitude: str, east: str, expected: tuple[float, float] | None
) -> None:
    noted = {"EXIF_GPSLatitude": latitude, "EXIF_GPSLongitude": longitude}
    noted |= {"EXIF_GPSLatitudeRef": north, "EXIF_GPSLongitudeRef": east}
    assert place(noted) == ((None, None) if expected is None else pytest.approx(expected, abs=1e-8))


def write_place(path: Path, latitude: tuple[float, ...], longitude: tuple[float, ...], references: str = "SE") -> Path:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: references[0], 2: latitude, 3: references[1], 4: longitude})
    written = Image.Exif()
    written.load(exif.tobytes())  # TIFFs take what was read from a file
    Image.fromarray(GREY).save(path, exif=exif.tobytes() if path.suffix == ".jpg" else written)
    return path


def parts_of(degrees: float, number: int) -> tuple[IFDRational, ...]:
    """An angle as cameras write it: `number` of its parts have what the ones before leave over, to 1e-9 degrees."""
    parts = [IFDRational(0)] * 3
    for i in range(number):
        whole = int(degrees) if i < number - 1 else degrees
        parts[i] = IFDRational(round(whole * 10**7), 10**7)
        degrees = (degrees - whole) * 60
    return tuple(parts)


@given(
    latitude=st.floats(0.001, 89.9),
    longitude=st.floats(0.001, 179.9),
    number=st.integers(1, 3),
    references=st.sampled_from(["NE", "NW", "SE", "SW"]),
    suffix=st.sampled_from([".jpg", ".tif"]),
)
def test_a_place_is_read_to_the_digit(
    latitude: float,
    longitude: float,
    number: int,
    references: str,
    suffix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("places") / f"a{suffix}"
    write_place(path, parts_of(latitude, number), parts_of(longitude, number), references)
    found = header(path)
    assert found.latitude == pytest.approx(latitude if references[0] == "N" else -latitude, abs=1e-7)
    assert found.longitude == pytest.approx(longitude if references[1] == "E" else -longitude, abs=1e-7)


def test_a_place_of_numbers_over_zero_is_none(tmp_path: Path) -> None:
    zero = (IFDRational(0, 0),) * 3
    found = header(write_place(tmp_path / "a.jpg", zero, zero))
    assert (found.latitude, found.longitude) == (None, None)


def test_exif_times() -> None:
    assert exif_time("2016:06:23 16:32:43") == datetime(2016, 6, 23, 16, 32, 43)
    for text in (None, "", "0000:00:00 00:00:00", "    :  :     :  :  ", "2016-06-23"):
        assert exif_time(text) is None


@pytest.mark.parametrize("text", ["0", "9", "-1", "1.5", "²", "", "(1)"])
def test_what_is_no_orientation(text: str) -> None:
    assert orientation({"EXIF_Orientation": text}) is None
    assert orientation({"EXIF_Orientation": " 6 "}) == 6


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif[0x013B] = 6, "2020:01:02 03:04:05", "someone"
    exif.get_ifd(0x8769)[0x9003] = "2019:12:31 23:59:58"
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 1.5), 3: "W", 4: (10.0, 0.0, 36.0)})
    return exif


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.png", "a.webp", "a.jp2"])
def test_exif_is_noted_where_gdal_gives_it(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif.load(exif_of_a_camera().tobytes())  # TIFFs take what was read from a file
    Image.fromarray(GREY).save(tmp_path / name, exif=exif if name == "a.tif" else exif.tobytes())
    found = header(tmp_path / name)
    assert (found.width, found.height) == (30, 20), "of the stored raster, which is not turned"
    if name in ("a.jpg", "a.tif"):
        assert found.captured_at == datetime(2019, 12, 31, 23, 59, 58)
        assert found.latitude == pytest.approx(-33.500416667)
        assert found.longitude == pytest.approx(-10.01)
    else:
        assert (found.captured_at, found.latitude, found.longitude) == (None, None, None)
    assert found.orientation == (6 if name == "a.jpg" else None)


def test_a_mosaics_date_is_no_capture_time(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", GREY)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2020:01:02 03:04:05")
    assert header(path).captured_at is None


@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), min_size=1))
def test_bad_exif_is_not_known_and_no_error(edits: list[tuple[float, bytes]]) -> None:
    exif = bytearray(exif_of_a_camera().tobytes())
    start = len(b"Exif\0\0")
    for share, replacement in edits:
        position = start + int(share * (len(exif) - start - len(replacement)))
        exif[position : position + len(replacement)] = replacement
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jpg")
        Image.fromarray(GREY).save(path, exif=bytes(exif))
        found = header(path)
    assert found.orientation in (None, *range(1, 9))
    assert found.latitude is None or abs(found.latitude) <= 90
    assert found.longitude is None or abs(found.longitude) <= 180


def sparse(path: Path, width: int, height: int) -> Path:
    """A small file that claims many pixels."""
    layout = {"tiled": True, "blockxsize": 16_384, "blockysize": 16_384, "sparse_ok": True, "bigtiff": "yes"}
    size = {"width": width, "height": height, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **layout):
        pass
    return path


def test_absurd_dimensions_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a.tif", 2_000_000, 1_000_000)
    assert path.stat().st_size < 1_000_000
    (source,) = list_images(str(tmp_path), "--survey")
    with pytest.raises(ImageError, match=r"^claims 2000000x1000000 pixels, more than the limit of 2e\+10$") as error:
        inspect(source)
    assert error.value.stage == "read"


def test_the_largest_image(tmp_path: Path) -> None:
    side = math.isqrt(MAX_PIXELS)
    assert header(sparse(tmp_path / "a.tif", side, side)).width == side
    with pytest.raises(ImageError, match=f"claims {side + 1}x{side + 1} pixels"):
        header(sparse(tmp_path / "b.tif", side + 1, side + 1))


def test_absurdly_many_bands_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.zeros((4, 4, MAX_BANDS), np.uint8))
    assert header(path).bands == MAX_BANDS
    path = write_image(tmp_path / "b.tif", np.zeros((4, 4, MAX_BANDS + 1), np.uint8))
    with pytest.raises(ImageError, match=f"claims {MAX_BANDS + 1} bands, more than the limit of {MAX_BANDS}"):
        header(path)


@pytest.mark.parametrize("side", ["width", "height"])
def test_an_image_without_pixels_is_refused(tmp_path: Path, side: str) -> None:
    path = write_image(tmp_path / "a.png", GREY)
    data = bytearray(path.read_bytes())
    start = data.index(b"IHDR") + 4 + (4 if side == "height" else 0)
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"cannot be read as an image|has no pixels"):
        header(path)


def test_a_smaller_shape_averages_pixels_and_a_larger_one_interpolates(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    path = write_image(tmp_path / "a.tif", np.kron(blocks, np.ones((4, 4), np.uint8)))
    with open_raster(str(path)) as dataset:
        pixels, valid = read_rgb(dataset, 0, 0, 32, 20, (5, 8))
        np.testing.assert_array_equal(pixels, np.dstack([blocks] * 3))
        assert valid is None
    path = write_image(tmp_path / "b.tif", np.array([[0, 100], [0, 100]], np.uint8))
    with open_raster(str(path)) as dataset:
        larger = read_rgb(dataset, 0, 0, 2, 2, (4, 8))[0]
    assert larger.shape == (4, 8, 3)
    assert (np.diff(larger[..., 0].astype(int), axis=1) >= 0).all()
    assert len(np.unique(larger)) > 3, "in between, not one of the two"


def test_a_smaller_shape_keeps_the_colours_of_a_palette_and_shrinks_validity(tmp_path: Path) -> None:
    classes = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((8, 8), np.uint8))
    colours = {0: (9, 9, 9, 255), 1: (10, 20, 30, 255), 2: (40, 50, 60, 255), 3: (70, 80, 90, 255)}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=16, height=16, count=1, dtype="uint8", nodata=0) as dataset:
        dataset.write(classes, 1)
        dataset.write_colormap(1, colours)
    with open_raster(str(path)) as dataset:
        pixels, valid = read_rgb(dataset, 0, 0, 16, 16, (2, 2))
    assert pixels.tolist() == [[[9, 9, 9], [10, 20, 30]], [[40, 50, 60], [70, 80, 90]]]
    assert valid is not None
    assert valid.tolist() == [[False, True], [True, True]]


@pytest.mark.real_data
def test_headers_of_real_rasters_equal_rasterios(real_data: Path) -> None:
    paths = sorted((real_data / "geotiff").glob("*.tif"))
    assert len(paths) > 20
    for path in paths:
        found = header(path)
        with rasterio.open(path) as dataset:
            crs, transform = dataset.crs, dataset.transform
            gcps, gcp_crs = dataset.gcps
            assert (found.width, found.height, found.bands) == (dataset.width, dataset.height, dataset.count)
            assert found.dtype == dataset.dtypes[0]
        if gcps:
            crs, transform = gcp_crs, from_gcps(gcps)
        assert found.crs == (crs.to_string() if crs else None), path.name
        assert found.transform == (tuple(transform)[:6] if crs else None), path.name


@pytest.mark.real_data
def test_places_of_all_drone_photographs(real_data: Path) -> None:
    for path in sorted((real_data / "drone").glob("*.JPG")):
        found = header(path)
        assert (found.width, found.height) == (4000, 2250)
        assert found.captured_at is not None
        assert found.captured_at.date().isoformat() == "2016-06-23"
        assert found.latitude == pytest.approx(46.8427, abs=1e-3)
        assert found.longitude == pytest.approx(-91.994, abs=1e-3)
