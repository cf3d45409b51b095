"""Inputs made after public bug reports, each with its right answer: what is misread nowhere."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from ssvq.config import LabelledImages
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage, list_images
from ssvq.imagery.classes import read_classes
from ssvq.imagery.layouts import find_images
from ssvq.imagery.units import inspect

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def field(real_data: Path) -> Path:
    folder = real_data.parent / "field"
    if not folder.is_dir():
        pytest.skip(f"no inputs of the field at {folder}")
    return folder


def share_of(image: SourceImage) -> float:
    """The share of its pixels that is anomalous."""
    header = inspect(image)
    classes = read_classes(image, 0, 0, header.width, header.height)
    assert classes is not None
    return float((classes > 0).mean())


Found = tuple[dict[str, SourceImage], dict[str, ImageError]]


@pytest.fixture(scope="module")
def found(field: Path) -> Found:
    config = LabelledImages(images=str(field / "masks" / "images"), masks=str(field / "masks" / "masks"))
    images, failed = find_images(config)
    return {Path(i.path).stem: i for i in images}, {Path(i.path).stem: error for i, error in failed}


class TestMasks:
    @pytest.mark.parametrize(
        ("name", "share"),
        [
            *((f"{name}_20", 0.195) for name in ("adaptive", "pilquant", "palette_white0", "rgba_transparent_white")),
            *((f"{name}_75", 0.75) for name in ("adaptive", "pilquant", "palette_white0", "value1")),
            *(("ref20", 0.195), ("ref75", 0.75), ("pngmask_pits", 0.19), ("jpegmask_pits", 0.19)),
            *(("videoblack16_20", 0.195), ("suffixed", 0.75)),
        ],
    )
    def test_the_share_that_a_person_drew(self, found: Found, name: str, share: float) -> None:
        assert share_of(found[0][name]) == pytest.approx(share, abs=0.006)

    @pytest.mark.parametrize(("name", "turns"), [("exif3", 2), ("exif6", 1)])
    def test_masks_of_turned_photographs(self, found: Found, name: str, turns: int) -> None:
        image = found[0][name]
        assert image.mask is not None
        with rasterio.open(image.mask.uri) as mask:
            upright = mask.read(1) > 0
        header = inspect(image)
        classes = read_classes(image, 0, 0, header.width, header.height)
        assert classes is not None
        np.testing.assert_array_equal(classes > 0, np.rot90(upright, turns))

    def test_two_masks_are_named(self, found: Found) -> None:
        assert re.search(r"has 2 masks, twomasks\.\w+ and twomasks\.\w+", str(found[1]["twomasks"]))

    def test_a_palette_gives_what_grey_gives(self, field: Path) -> None:
        folder = field / "palette_train"
        shares = [
            [share_of(image) for image in find_images(LabelledImages(images=str(folder / "images"), masks=masks))[0]]
            for masks in (str(folder / "masks"), str(folder / "png"))
        ]
        assert shares[0] == shares[1]
        assert max(shares[0]) > 0

    def test_images_and_masks_in_one_folder(self, field: Path) -> None:
        folder = str(field / "same_folder")
        images, failed = find_images(LabelledImages(images=folder, masks=folder))
        assert not failed
        assert [image.path for image in images] == ["p0.png", "p1.png", "p2.png"]
        assert all(image.mask is not None and image.mask.uri.endswith("_mask.png") for image in images)


class TestManifests:
    @pytest.mark.parametrize(
        "name", ["labels.csv", "bool.parquet", "okng.csv", "mixed.csv", "bom.csv", "semi.csv", "utf16.csv"]
    )
    def test_words_for_normal(self, field: Path, name: str) -> None:
        images, failed = find_images(LabelledImages(manifest=str(field / "manifests" / name)))
        assert images
        assert not failed
        said = {str(image.label).lower() for image in images}
        assert not said & {"normal", "0", "0.0", "false", "ok", "pass", "no"}
        assert "good" in said


class TestPlaceAndBands:
    @pytest.mark.parametrize("name", ["nofix_zero", "zerodiv", "noref"])
    def test_no_fix_is_no_position(self, field: Path, name: str) -> None:
        header = inspect(SourceImage(str(field / "gps" / f"{name}.jpg"), name, "1", 1))
        assert (header.latitude, header.longitude) == (None, None)

    @pytest.mark.parametrize("name", ["sydney", "sydney_minutes"])
    def test_positions_are_exact(self, field: Path, name: str) -> None:
        header = inspect(SourceImage(str(field / "gps" / f"{name}.jpg"), name, "1", 1))
        assert (header.latitude, header.longitude) == pytest.approx((-33.8567895, 151.2094995), abs=1e-7)

    def test_bands_are_found_by_their_names(self, field: Path) -> None:
        assert inspect(SourceImage(str(field / "bands" / "ms_described.tif"), "a", "1", 1)).named_bands == (3, 2, 1)

    def test_a_world_file_says_where_a_raster_lies(self, field: Path) -> None:
        (image,) = (i for i in list_images(str(field / "bands"), "--survey") if i.path == "worldfile.tif")
        header = inspect(image)
        with rasterio.open(image.uri) as dataset:
            assert header.transform == tuple(dataset.transform)[:6]
        assert header.crs == "EPSG:32632"


class TestSurvey:
    def test_every_picture_is_read_or_told(self, field: Path, capsys: pytest.CaptureFixture[str]) -> None:
        read = {image.path for image in list_images(str(field / "survey"), "--survey")}
        assert {"camera.bmp", "old.gif", "phone.jfif", "mavic.ppm", "mpo.mpo", "noext", "UPPER.TIF"} <= read
        said = capsys.readouterr().err
        assert "2 pictures are passed over" in said
        assert "IMG_0001.HEIC" in said
        assert "DJI_0002.DNG" in said
        for name in read:
            inspect(SourceImage(str(field / "survey" / name), name, "1", 1))

    def test_pages_are_counted(self, field: Path) -> None:
        assert inspect(SourceImage(str(field / "survey" / "pages.tif"), "pages.tif", "1", 1)).pages == 3


class TestLayouts:
    def test_mvtec_loco_and_3d(self, field: Path) -> None:
        for name in ("loco", "mv3d"):
            root = field / "layouts" / name
            categories = (
                [root] if (root / "train").is_dir() else sorted(path for path in root.iterdir() if path.is_dir())
            )
            images, failed = find_images(LabelledImages(mvtec=str(categories[0])))
            assert not failed
            assert not any("/gt/" in image.path or "/xyz/" in image.path for image in images)
            if name == "loco":
                assert any(image.path.startswith("validation/good") for image in images)
