"""The layouts of labelled data sets, each with what is said where it does not fit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ssvq.config import LabelledImages
from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import NORMAL_LABEL, Mask, SourceImage
from ssvq.imagery.layouts import find_images
from ssvq.imagery.manifest import manifest_csv
from ssvq.imagery.vocabulary import label_of
from tests.support.images import write_image


def touch(folder: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def folders(root: Path, **settings: object) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    return find_images(LabelledImages(images=str(root / "images"), masks=str(root / "masks"), **settings))


def mask_uri(image: SourceImage) -> str:
    assert image.mask is not None
    return image.mask.uri


class TestFolders:
    def test_masks_are_paired_by_path_without_suffix(self, tmp_path: Path) -> None:
        touch(tmp_path / "images", "a.jpg", "b c's.JPG", "grün.tif", "sub/a.jpg", "x.y.jpg")
        touch(tmp_path / "masks", "a.png", "b c's.png", "grün.png", "sub/a.tif", "x.y.png", "spare.png")
        paired, missing = folders(tmp_path, anomalous_classes=[3, 2])
        assert missing == []
        masks = [str(Path(mask_uri(image)).relative_to(tmp_path / "masks")) for image in paired]
        assert masks == ["a.png", "b c's.png", "grün.png", "sub/a.tif", "x.y.png"]
        assert {image.mask.anomalous_classes for image in paired if image.mask} == {(2, 3)}

    def test_a_changed_mask_changes_the_fingerprint(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/a.jpg", "masks/a.png")
        ((before,), _) = folders(tmp_path)
        touch(tmp_path / "masks", "a.png", content=b"drawn again")
        ((after,), _) = folders(tmp_path)
        assert before.fingerprint != after.fingerprint

    def test_an_image_without_mask_is_reported_with_the_file_that_was_looked_for(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/a.jpg", "images/sub/b.jpg", "masks/a.png", "masks/b.png")
        paired, ((image, error),) = folders(tmp_path)
        assert [image.path for image in paired] == ["a.jpg"]
        assert (image.path, error.stage) == ("sub/b.jpg", "mask")
        assert error.message == f"has no mask: expected sub/b.png, sub/b_mask.png or sub/b.jpg.png in {tmp_path}/masks"

    @pytest.mark.parametrize("name", ["a.png", "a_mask.png", "A_Mask.PNG", "a.jpg.png", "a.TIF"])
    def test_the_common_names_of_masks(self, tmp_path: Path, name: str) -> None:
        touch(tmp_path, "images/a.jpg", f"masks/{name}")
        ((image,), missing) = folders(tmp_path)
        assert (Path(mask_uri(image)).name, missing) == (name, [])

    def test_two_masks_for_an_image_are_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png", "masks/a.tif", "masks/b.png", "masks/b_mask.png")
        paired, missing = folders(tmp_path)
        assert paired == []
        assert [error.message for _, error in missing] == [
            "has 2 masks, a.png and a.tif: keep one, or join them",
            "has 2 masks, b.png and b_mask.png: keep one, or join them",
        ]

    def test_masks_beside_their_images_are_no_images(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", "a_mask.png", "b.jpg", "b.png", "c.png")
        paired, missing = find_images(LabelledImages(images=str(tmp_path), masks=str(tmp_path)))
        assert [(image.path, Path(mask_uri(image)).name) for image in paired] == [("a.png", "a_mask.png")]
        assert [image.path for image, _ in missing] == ["b.jpg", "b.png", "c.png"]  # which is the mask is not known

    def test_a_missing_folder_of_masks_is_named_with_its_setting(self, tmp_path: Path) -> None:
        touch(tmp_path / "images", "a.jpg")
        with pytest.raises(InputError, match=r"^--masks .*/masks is not a folder"):
            folders(tmp_path)

    def test_without_masks_all_images_are_normal(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "b.jpg")
        images, failed = find_images(LabelledImages(images=str(tmp_path)))
        assert [(image.label, image.mask) for image in images] == [(NORMAL_LABEL, None)] * 2
        assert failed == []

    def test_groups_by_a_pattern(self, tmp_path: Path) -> None:
        touch(tmp_path / "images", "exp1_num_7.jpg", "exp2_num_7.jpg", "exp1_num_8.jpg", "other.jpg")
        for pattern, expected in ((r"num_(\d+)", ["7", "8", "7", None]), (r"exp\d", ["exp1", "exp1", "exp2", None])):
            images, _ = find_images(LabelledImages(images=str(tmp_path / "images"), group_pattern=pattern))
            assert [image.group for image in images] == expected


class TestMvtec:
    def test_good_and_defective_images(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/0.png", "test/good/0.png", "test/crack/0.png", "test/crack/1.png")
        touch(tmp_path, "ground_truth/crack/0_mask.png", "ground_truth/crack/1_mask.png", "license.txt")
        images, failed = find_images(LabelledImages(mvtec=str(tmp_path)))
        found = [(image.path, image.label, image.mask and image.mask.uri) for image in images]
        assert found == [
            ("test/crack/0.png", "crack", f"{tmp_path}/ground_truth/crack/0_mask.png"),
            ("test/crack/1.png", "crack", f"{tmp_path}/ground_truth/crack/1_mask.png"),
            ("test/good/0.png", NORMAL_LABEL, None),
            ("train/good/0.png", NORMAL_LABEL, None),
        ]
        assert failed == []

    def test_a_defect_without_its_mask_is_reported(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/0.png", "test/crack/0.png", "ground_truth/crack/7_mask.png")
        _, ((image, error),) = find_images(LabelledImages(mvtec=str(tmp_path)))
        assert image.path == "test/crack/0.png"
        assert error.message == "has no mask: expected ground_truth/crack/0_mask.png"

    def test_the_folder_of_all_categories_is_refused_with_a_hint(self, tmp_path: Path) -> None:
        touch(tmp_path, "carpet/train/good/0.png", "wood/train/good/0.png")
        with pytest.raises(InputError, match=rf"--mvtec .*no train/good; give one .*such as {tmp_path}/carpet"):
            find_images(LabelledImages(mvtec=str(tmp_path)))

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/0.png")
        with pytest.raises(InputError, match=r"is not a category in the MVTec AD layout: no train/good$"):
            find_images(LabelledImages(mvtec=str(tmp_path)))

    @pytest.mark.real_data
    def test_magnetic_tiles(self, real_data: Path) -> None:
        root = str(real_data / "magnetic_tile")
        images, failed = find_images(LabelledImages(mvtec=root, group_pattern=r"num_(\d+)"))
        assert failed == []
        labels = [image.label for image in images]
        assert (labels.count(NORMAL_LABEL), len(labels)) == (952, 1344)
        assert set(labels) == {NORMAL_LABEL, "blowhole", "break", "crack", "fray", "uneven"}
        assert all(image.group for image in images)


class TestManifest:
    def write(self, folder: Path, text: str) -> LabelledImages:
        (folder / "manifest.csv").write_text(text)
        return LabelledImages(manifest=str(folder / "manifest.csv"), anomalous_classes=[1])

    def test_columns(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "masks/a.png", "sub/b.jpg", "c.jpg")
        text = (
            "note,image,mask,label,split,group\n"
            "x,a.jpg,masks/a.png,,train,007\n"
            "y,sub/b.jpg,,normal,,\n"
            f"z,{tmp_path}/c.jpg,,crack,test,\n"
        )
        (a, b, c), failed = find_images(self.write(tmp_path, text))
        assert failed == []
        assert a.mask == Mask(f"{tmp_path}/masks/a.png", (1,))
        assert (a.uri, a.label, a.split, a.group) == (f"{tmp_path}/a.jpg", None, "train", "007")
        assert (b.path, b.label, b.split, b.group, b.mask) == ("sub/b.jpg", NORMAL_LABEL, None, None, None)
        assert (c.uri, c.label, c.split) == (f"{tmp_path}/c.jpg", "crack", "test")

    def test_parquet_is_the_same(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "b.jpg")
        rows = {"image": ["a.jpg", "b.jpg"], "label": [0, 1], "group": [7, None]}
        pq.write_table(pa.table(rows), tmp_path / "m.parquet")
        images, _ = find_images(LabelledImages(manifest=str(tmp_path / "m.parquet")))
        assert [(image.label, image.group) for image in images] == [(NORMAL_LABEL, "7"), ("1", None)]

    def test_what_is_missing_is_reported_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
        text = "image,mask,label\na.jpg,none.png,\nb.jpg,,\nc.jpg,,good\nd.jpg,,good\n"
        images, failed = find_images(self.write(tmp_path, text))
        assert [image.path for image in images] == ["c.jpg"]
        assert [(image.path, error.stage, error.message) for image, error in failed] == [
            ("a.jpg", "mask", f"has no mask: expected {tmp_path}/none.png"),
            ("b.jpg", "mask", "has neither a mask nor a label in the manifest"),
            ("d.jpg", "read", "is in the manifest but does not exist"),
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("picture,mask\na,b\n", r"has no column image \(it has picture, mask\)"),
            ("image,split\na,train\n", "neither a column mask nor a column label"),
            ("image,label\n", "names no image"),
            ("image,label\n,good\n", "row 1 names no image"),
            ("image,label,split\na,good,train\nb,good,val\n", "row 2 has split 'val'; allowed: train, validation"),
            ("image,label\na,good\na,good\n", "names a 2 times"),
            ("", "neither CSV nor Parquet"),
        ],
    )
    def test_a_manifest_that_does_not_fit(self, tmp_path: Path, text: str, expected: str) -> None:
        with pytest.raises(InputError, match=rf"--manifest .*manifest\.csv.*{expected}"):
            find_images(self.write(tmp_path, text))

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not there"):
            find_images(LabelledImages(manifest=str(tmp_path / "none.csv")))

    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        write_image(tmp_path / "images" / 'a, "b".png', np.zeros((8, 8), np.uint8))
        write_image(tmp_path / "masks" / 'a, "b".png', np.zeros((8, 8), np.uint8))
        write_image(tmp_path / "images" / "c.png", np.zeros((8, 8), np.uint8))
        write_image(tmp_path / "masks" / "c.png", np.zeros((8, 8), np.uint8))
        images, _ = folders(tmp_path, group_pattern=r"(c)\.png")
        splits = {images[0].image_id: "train", images[1].image_id: "test"}
        (tmp_path / "m.csv").write_text(manifest_csv(images, splits))
        again, failed = find_images(LabelledImages(manifest=str(tmp_path / "m.csv")))
        assert failed == []
        assert [(i.uri, i.mask, i.fingerprint, i.group) for i in again] == [
            (i.uri, i.mask, i.fingerprint, i.group) for i in images
        ]
        assert [image.split for image in again] == ["train", "test"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "--images is missing"),
        ({"images": "i", "mvtec": "m"}, "--images and --mvtec name two layouts"),
        ({"manifest": "m.csv", "masks": "m"}, "--masks needs --images"),
        ({"images": "i", "anomalous_classes": [0, 1]}, "--anomalous-classes are mask values from 1 to 255"),
        ({"images": "i", "group_pattern": "("}, "--group-pattern .* is not a regular expression"),
    ],
)
def test_settings_that_name_no_layout(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        LabelledImages(**settings)


class TestVariantsOfMvtec:
    def test_validation_images_are_used(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/0.png", "validation/good/0.png", "test/good/0.png")
        images, _ = find_images(LabelledImages(mvtec=str(tmp_path)))
        assert [image.path for image in images] == ["test/good/0.png", "train/good/0.png", "validation/good/0.png"]

    def test_loco_has_a_folder_of_masks_for_an_image(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/0.png", "test/logical/0.png", "test/logical/1.png")
        touch(tmp_path / "ground_truth" / "logical", "0/000.png", "1/000.png", "1/001.png")
        images, ((failed, error),) = find_images(LabelledImages(mvtec=str(tmp_path)))
        assert [mask_uri(image) for image in images if image.mask] == [f"{tmp_path}/ground_truth/logical/0/000.png"]
        assert failed.path == "test/logical/1.png"
        assert "has 2 masks" in error.message

    def test_3d_has_pictures_masks_and_heights_in_folders(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/rgb/0.png", "train/good/xyz/0.tiff", "test/good/rgb/0.png", "test/good/gt/0.png")
        touch(tmp_path / "test" / "crack", "rgb/0.png", "gt/0.png", "xyz/0.tiff")
        images, failed = find_images(LabelledImages(mvtec=str(tmp_path)))
        assert failed == []
        assert [(image.path, image.label) for image in images] == [
            ("test/crack/rgb/0.png", "crack"),
            ("test/good/rgb/0.png", NORMAL_LABEL),
            ("train/good/rgb/0.png", NORMAL_LABEL),
        ]
        assert mask_uri(images[0]) == f"{tmp_path}/test/crack/gt/0.png"

    def test_suffixes_of_masks_in_any_case(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/good/0.png", "test/rust/0.png", "ground_truth/rust/0_mask.PNG")
        images, failed = find_images(LabelledImages(mvtec=str(tmp_path)))
        assert (len(images), failed) == (2, [])


def test_a_pattern_of_groups_that_does_not_match_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "part_1_a.png", "part_1_b.png", "part_2.png", "other.png")
    find_images(LabelledImages(images=str(tmp_path), group_pattern=r"part_(\d)"))
    said = capsys.readouterr().err
    assert "2 groups of 3 images; 1 images do not match, such as other.png" in said


@pytest.mark.parametrize("word", ["good", "Normal", "OK", "pass", "0", "0.0", "False", "no", " ok ", "Intakt"])
def test_words_for_normal(word: str) -> None:
    assert label_of(word, ["intakt"]) == NORMAL_LABEL


def test_other_words_are_defects_and_are_listed_with_their_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(4)))
    (tmp_path / "m.csv").write_text("image,label\n0.png,OK\n1.png,NG\n2.png,NG\n3.png,gut\n")
    images, _ = find_images(LabelledImages(manifest=str(tmp_path / "m.csv")))
    assert [image.label for image in images] == [NORMAL_LABEL, "NG", "NG", "gut"]
    assert "labels: normal 1; defects: NG 2, gut 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        b"image,label\na.png,good\n",
        b"\xef\xbb\xbfimage,label\na.png,good\n",
        b"\xef\xbb\xbfimage;label\r\na.png;good\r\n",
        b"image\tlabel\na.png\tgood\n",
        "image,label\na.png,good\n".encode("utf-16"),
    ],
)
def test_csv_as_spreadsheets_save_it(tmp_path: Path, data: bytes) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "m.csv").write_bytes(data)
    ((image,), _) = find_images(LabelledImages(manifest=str(tmp_path / "m.csv")))
    assert image.label == NORMAL_LABEL


def test_csv_in_another_encoding_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("image,label\ngrün.png,good\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"m\.csv is not text in UTF-8: save it as CSV UTF-8$"):
        find_images(LabelledImages(manifest=str(tmp_path / "m.csv")))
