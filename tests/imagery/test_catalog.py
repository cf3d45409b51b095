"""What is in a survey, under which identity, and which mask belongs to which image."""

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssvq.errors import InputError
from ssvq.imagery.catalog import PassedOver, SourceImage, iter_images, list_images

ODD_NAMES = ["a b.jpg", "it's.png", 'say "x".jpg', "grün 图像.tif", "100%.png", "a#1?.jpg", "a:b!c.tif", "-x.png"]


def touch(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_images_are_known_by_their_suffix_in_any_case(tmp_path: Path) -> None:
    images = ["a.tif", "b.TIFF", "c.jpg", "d.JPEG", "e.Png", "f.webp", "g.JP2"]
    touch(tmp_path, *images, "notes.txt", "a.tif.aux.xml", "a.tfw", "jpg", "b.tif.part", "cube.vrt")
    assert [image.path for image in list_images(str(tmp_path), "--survey")] == images


def test_folders_are_walked_and_hidden_ones_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/x.jpg", "a/deep/er/y.jpg", "z/x.jpg", ".thumb/a.jpg", "a/.x.jpg", "a/._x.jpg")
    images = list_images(str(tmp_path), "--survey")
    assert [image.path for image in images] == ["a/deep/er/y.jpg", "a/x.jpg", "b.jpg", "z/x.jpg"]
    assert [image.uri for image in images] == [f"{tmp_path}/{image.path}" for image in images]


def test_odd_names_are_kept_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, *ODD_NAMES)
    images = list_images(str(tmp_path), "--survey")
    assert [image.path for image in images] == sorted(ODD_NAMES)
    assert all(Path(image.uri).is_file() for image in images)
    assert len({image.image_id for image in images}) == len(ODD_NAMES)


def test_the_identity_is_the_path_within_the_survey_alone(tmp_path: Path) -> None:
    touch(tmp_path / "one", "a/b.jpg", content=b"x")
    touch(tmp_path / "two", "a/b.jpg", content=b"other")
    (one,) = list_images(str(tmp_path / "one"), "--survey")
    (two,) = list_images(f"{tmp_path}/two/", "--survey")
    assert one.image_id == two.image_id
    # Outputs of earlier runs are found by it: it must never change.
    assert one.image_id == "4a51636246e7c418bb92"


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_identities_are_short_names_for_files(paths: list[str]) -> None:
    ids = {SourceImage(f"/survey/{path}", path, "v", 1).image_id for path in paths}
    assert len(ids) == len(paths)
    assert all(re.fullmatch(r"[0-9a-f]{20}", image_id) for image_id in ids)


def test_the_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", content=b"old")
    a, b = list_images(str(tmp_path), "--survey")
    assert list_images(str(tmp_path), "--survey") == [a, b]
    time.sleep(0.02)  # a file's time has the step of the kernel's clock
    touch(tmp_path, "a.jpg", content=b"new")
    changed, same = list_images(str(tmp_path), "--survey")
    assert changed.fingerprint != a.fingerprint
    assert same == b
    # A copy that keeps the time, of another size, is another one too.
    status = (tmp_path / "b.jpg").stat()
    touch(tmp_path, "b.jpg", content=b"longer")
    os.utime(tmp_path / "b.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list_images(str(tmp_path), "--survey")[1].fingerprint != b.fingerprint


def test_a_folder_that_is_missing_or_empty_is_named_with_its_setting(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt", "file.jpg")
    for name in ("missing", "file.jpg"):
        with pytest.raises(InputError, match=rf"^--survey {tmp_path}/{name} is not a folder; give the folder"):
            list_images(f"{tmp_path}/{name}", "--survey")
    with pytest.raises(InputError, match=rf"^--images {tmp_path}/empty holds no image \(\.tif, "):
        list_images(f"{tmp_path}/empty", "--images")


def test_a_name_that_is_not_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(InputError, match=r"name is not UTF-8; rename it: caf\\udce9\.jpg$"):
        list_images(str(tmp_path), "--survey")


def test_pictures_of_other_formats_are_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = ["a.jpg", "b.JFIF", "c.mpo", "d.bmp", "e.GIF", "sub/f.ppm"]
    touch(tmp_path, *read, "g.img", "sub/h.IMG", "i.HEIC", "notes.txt", "Thumbs.db")
    assert [image.path for image in list_images(str(tmp_path), "--survey")] == read
    said = (
        "3 pictures are passed over: 1 .heic (save as JPEG or TIFF), such as i.HEIC; "
        "2 .img (--drivers HFA), such as g.img"
    )
    assert said in capsys.readouterr().err
    assert len(list_images(str(tmp_path), "--survey", ["HFA"])) == 8
    assert "1 picture is passed over: 1 .heic" in capsys.readouterr().err


def test_a_picture_without_a_suffix_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    touch(tmp_path, "README", "_SUCCESS")
    touch(tmp_path, "photograph", content=b"\xff\xd8\xff\xe0 and so on")
    assert [image.path for image in list_images(str(tmp_path), "--survey")] == ["photograph"]


def test_links_are_followed_or_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path / "survey", "a.jpg", "sub/b.jpg")
    touch(tmp_path / "disk", "flight/c.jpg")
    for link, target in {
        "linked": tmp_path / "disk",
        "again": tmp_path / "disk" / "flight",
        "loop": tmp_path / "survey",
        "above": tmp_path,
        "sub/other": tmp_path / "survey" / "sub",
        "sub/gone.jpg": "missing.jpg",
        "sub/itself.jpg": "itself.jpg",
    }.items():
        (tmp_path / "survey" / link).symlink_to(target)
    others: list[PassedOver] = []
    found = [image.path for image in iter_images(str(tmp_path / "survey"), "--survey", passed_over=others)]
    assert found == ["a.jpg", "again/c.jpg", "sub/b.jpg"]
    told = capsys.readouterr().err
    assert "4 link (is a link to a folder that is listed anyway), such as above" in told
    assert "2 link (is a link to nothing), such as sub/gone.jpg" in told
    assert len(others) == 6
