"""Which of GDAL's drivers may open a file: the usual ones by its first bytes, others only when they are named."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from ssvq.config import LabelledImages
from ssvq.errors import ImageError
from ssvq.imagery.catalog import list_images
from ssvq.imagery.drivers import SUFFIXES, driver_of, known_driver, suffixes
from ssvq.imagery.grid import Tiling
from ssvq.imagery.layouts import find_images
from ssvq.imagery.pixels import read_rgb
from ssvq.imagery.raster import open_raster, read_header
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart, inspect, plan_units, read_unit
from tests.support.images import write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
NAMED = {"a.img": "HFA", "a.ntf": "NITF", "a.bil": "EHdr"}


def write(path: Path, pixels: np.ndarray = PIXELS) -> Path:
    size = {"width": pixels.shape[1], "height": pixels.shape[0], "count": pixels.shape[2], "dtype": pixels.dtype}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", driver=NAMED[path.name], **size) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return path


def make_vrt(path: Path, source: Path) -> Path:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="32">{bands}</VRTDataset>')
    return path


@pytest.mark.parametrize(
    ("start", "driver"),
    [
        (b"II*\0", "GTiff"),
        (b"MM\0*", "GTiff"),
        (b"II+\0", "GTiff"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n\0", "PNG"),
        (b"RIFF\n\0\n\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
        (b"BM\x36\x10\0\0\0\0\0\0\x36", "BMP"),
        (b"BMessage of a person", None),
        (b"GIF89a", "GIF"),
        (b"P6\n64 32\n255\n", "PNM"),
        (b"P3\n64 32\n255\n", None),  # text, which GDAL does not read
        (b"<VRTDataset", None),
        (b"", None),
    ],
)
def test_first_bytes_tell_the_driver(start: bytes, driver: str | None) -> None:
    assert driver_of(start) == driver


def test_names_of_drivers() -> None:
    assert known_driver("hfa") == "HFA"
    assert known_driver("ENVI") == "ENVI"
    with pytest.raises(ValueError, match=r"^'HFX' is not a driver of this GDAL \(similar: HFA.*\); `rio env"):
        known_driver("HFX")
    with pytest.raises(ValueError, match=r"^'quite another' is not a driver of this GDAL; "):
        known_driver("quite another")


def test_suffixes_of_named_drivers_join_the_usual_ones() -> None:
    assert suffixes([]) == SUFFIXES
    assert set(suffixes(["HFA", "NITF", "PNM", "GTiff"])) == {*SUFFIXES, ".ntf", ".img", ".pnm"}
    assert suffixes(["ENVI"]) == SUFFIXES


@pytest.mark.parametrize("name", NAMED)
def test_a_named_driver_reads_its_files(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with pytest.raises(ImageError, match="is not an image of a known kind") as error, open_raster(str(path)):
        pass
    assert error.value.stage == "read"
    with open_raster(str(path), ["GIF", NAMED[name], "XPM"]) as dataset:
        assert read_header(dataset).driver == NAMED[name]
        assert read_header(dataset).random_access
        np.testing.assert_array_equal(read_rgb(dataset, 0, 0, 64, 32)[0], PIXELS)


def test_only_the_named_driver_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ntf")
    with pytest.raises(ImageError, match=r"cannot be read as an image: .*a\.ntf"), open_raster(str(path), ["HFA"]):
        pass


def test_the_usual_kinds_are_read_as_ever_beside_named_ones(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", PIXELS)
    with open_raster(str(path), ["VRT", "HFA"]) as dataset:
        assert dataset.driver == "PNG"
        assert dataset.files == [str(path)]


def test_a_vrt_is_read_only_when_it_is_named(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a.png", PIXELS)
    for name in ("b.vrt", "c.tif"):
        path = make_vrt(tmp_path / name, source)
        for drivers in ([], ["HFA", "NITF", "GTiff"]):
            with pytest.raises(ImageError), open_raster(str(path), drivers):
                pass
        with open_raster(str(path), ["VRT"]) as dataset:
            np.testing.assert_array_equal(read_rgb(dataset, 0, 0, 64, 32)[0], PIXELS)
    assert [image.path for image in list_images(str(tmp_path), "--survey")] == ["a.png", "c.tif"]
    assert [image.path for image in list_images(str(tmp_path), "--survey", ["VRT"])] == ["a.png", "b.vrt", "c.tif"]


def test_a_survey_of_named_kinds_travels_to_its_tiles(tmp_path: Path) -> None:
    for name in ("a.ntf", "a.img"):
        write(tmp_path / "survey" / name)
    write_image(tmp_path / "survey" / "a.png", PIXELS)
    images = list_images(str(tmp_path / "survey"), "--survey", ["NITF", "HFA"])
    assert [image.path for image in images] == ["a.img", "a.ntf", "a.png"]
    units = plan_units([(image, inspect(image)) for image in images], Tiling(tile_size=32, stride=32))
    travelled = [[ImagePart.from_json(part.to_json()) for part in unit] for unit in units]
    results = [result for unit in travelled for _, result in read_unit(unit)]
    assert len(results) == 3
    for result in results:
        assert isinstance(result, TileArrays)
        np.testing.assert_array_equal(np.hstack(list(result.pixels)), PIXELS)


def test_labelled_images_and_their_masks_of_named_kinds(tmp_path: Path) -> None:
    mask = (PIXELS[..., :1] > 127).astype(np.uint8)
    write(tmp_path / "i" / "a.ntf")
    write(tmp_path / "m" / "a.img", mask)
    config = LabelledImages(images=str(tmp_path / "i"), masks=str(tmp_path / "m"), drivers=["nitf", "HFA"])
    assert config.drivers == ["NITF", "HFA"]
    (tmp_path / "list.csv").write_text("image,mask\ni/a.ntf,m/a.img\n")
    listed = LabelledImages(manifest=str(tmp_path / "list.csv"), drivers=["NITF", "HFA"])
    for layout in (config, listed):
        (image,), failed = find_images(layout)
        assert not failed
        ((_, tiles),) = read_unit(plan_units([(image, inspect(image))], Tiling(tile_size=32, stride=32))[0])
        assert isinstance(tiles, TileArrays)
        assert tiles.classes is not None
        np.testing.assert_array_equal(np.hstack(list(tiles.classes)), mask[..., 0])
