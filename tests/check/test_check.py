"""`ssvq check`: what it says of images and labels, on the terminal and on its page."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssvq.check.look import PAINT, draw
from ssvq.cli import main
from ssvq.errors import ExitCode
from tests.support.images import write_image
from tests.support.photographs import photograph, saved_again

SHAPE = (150, 200)


def write_masked(folder: Path, name: str, seed: int, anomalous: NDArray[np.bool_] | None = None) -> None:
    """A photograph and its mask, with a corner painted unless something else is."""
    if anomalous is None:
        anomalous = np.zeros(SHAPE, bool)
        anomalous[:60, :50] = True
    write_image(folder / "images" / f"{name}.png", photograph(seed))
    write_image(folder / "masks" / f"{name}.png", anomalous.astype(np.uint8) * 255)


def check(folder: Path, *arguments: str) -> tuple[int, str]:
    page = folder / "check.html"
    code = main(["check", *arguments, "--out", str(page)])
    return code, page.read_text() if page.exists() else ""


def masked(folder: Path) -> tuple[str, ...]:
    return "--images", str(folder / "images"), "--masks", str(folder / "masks")


def test_images_in_order_end_with_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        write_masked(tmp_path, f"{seed}", seed, None if seed else np.zeros(SHAPE, bool))
    code, page = check(tmp_path, *masked(tmp_path))
    said = capsys.readouterr()
    assert code == ExitCode.DONE
    assert "4 images, 0 refused; anomalous by mask 3, normal by mask 1" in said.out
    assert "sizes: 200x150 PNG 4" in said.out
    assert "warning" not in said.err
    assert "Nothing is wrong that could be seen." in page
    assert page.count("<img ") == 4
    assert "10%" in page  # 60 x 50 of 150 x 200


def test_what_is_wrong_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        write_masked(tmp_path, f"{seed}", seed)
    write_masked(tmp_path, "inverted", 5, np.arange(SHAPE[0])[:, None] * np.ones(SHAPE[1]) > 20)
    write_masked(tmp_path, "other-size", 6, np.zeros((20, 20), bool))
    write_image(tmp_path / "images" / "unmasked.png", photograph(7))
    write_masked(tmp_path, "again", 8)
    write_image(tmp_path / "images" / "again.png", saved_again(photograph(2)))
    write_image(tmp_path / "masks" / "again.png", np.zeros((113, 150), np.uint8))
    (tmp_path / "images" / "raw.dng").write_bytes(b"II*\0")
    code, page = check(tmp_path, *masked(tmp_path))
    said = capsys.readouterr()
    assert code == ExitCode.SOME_IMAGES_FAILED
    assert "9 images, 2 refused" in said.out
    assert "refused: other-size.png: mask is 20x20 but the image is 200x150" in said.err
    assert "refused: unmasked.png: has no mask" in said.err
    assert re.search(r"nearly all of the image is anomalous by 1 mask: .*inverted\.png \(8\d%\)", said.err)
    assert "1 pair of images look the same: with one in training, figures are too good, such as 2.png = again.png" in (
        said.err
    )
    for text in ("other-size.png", "unmasked.png", "inverted.png (8", "2.png = again.png", "1 .dng (save as TIFF)"):
        assert text in page, text


def test_classes_and_splits_of_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(6):
        write_image(tmp_path / f"{seed}.png", photograph(seed))
    rows = ["0.png,OK,train", "1.png,good,train", "2.png,0,test", "3.png,scratch,train", "4.png,rust,test", "5.png,ok,"]
    (tmp_path / "m.csv").write_text("image,label,split\n" + "\n".join(rows))
    code, page = check(tmp_path, "--manifest", str(tmp_path / "m.csv"))
    assert code == ExitCode.DONE
    assert "normal 4, rust 1, scratch 1" in capsys.readouterr().out
    table = re.sub(r"<[^>]+>", " ", page[page.index('id="classes"') :].split("</table>")[0]).split()
    assert table[table.index("normal") :][:5] == ["normal", "4", "2", "1", "1"]  # in all, train, test, not given


def test_a_survey_has_no_labels_to_speak_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        write_image(tmp_path / "s" / f"{seed}.jpg", photograph(seed))
    write_image(tmp_path / "s" / "deep.tif", photograph(9).astype(np.uint16) * 100)
    code, page = check(tmp_path, "--survey", str(tmp_path / "s"))
    assert code == ExitCode.SOME_IMAGES_FAILED
    assert "uint16 pixels have no known range: train the model with --value-range" in page
    assert "no image is anomalous" not in page
    _, page = check(tmp_path, "--survey", str(tmp_path / "s"), "--value-range", "0,25500")
    assert 'alt="deep.tif"' in page


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    write_image(tmp_path / "s" / "<script>alert(1)<&script>.png", photograph(0))
    _, page = check(tmp_path, "--survey", str(tmp_path / "s"))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_wrong_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == ExitCode.WRONG_INPUT
    assert "--images is missing (or --mvtec, or --manifest, or --survey)" in capsys.readouterr().err
    assert main(["check", "--survey", str(tmp_path / "none")]) == ExitCode.WRONG_INPUT
    assert capsys.readouterr().err.count("\n") == 1
    write_image(tmp_path / "s" / "a.png", photograph(0))
    (tmp_path / "file").touch()
    arguments = ["check", "--survey", str(tmp_path / "s"), "--out", str(tmp_path / "file" / "check.html")]
    assert main(arguments) == ExitCode.WRONG_INPUT
    assert "--out" in capsys.readouterr().err


def test_few_of_each_class_get_a_picture(tmp_path: Path) -> None:
    for seed in range(9):
        write_image(tmp_path / f"{seed}.png", photograph(seed))
    labels = "".join(f"{seed}.png,{'rust' if seed == 4 else 'good'}\n" for seed in range(9))
    (tmp_path / "m.csv").write_text("image,label\n" + labels)
    _, page = check(tmp_path, "--manifest", str(tmp_path / "m.csv"), "--pictures", "3")
    assert page.count("<img ") == 3
    assert 'alt="4.png"' in page


def test_a_mask_is_tinted_and_lined() -> None:
    pixels, classes = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), np.uint8)
    classes[10:30, 20:40] = 1
    drawn = np.asarray(draw(pixels, classes))
    assert tuple(drawn[10, 20]) == PAINT
    assert tuple(drawn[0, 0]) == (100, 100, 100)
    assert drawn[20, 30, 0] > 100 > drawn[20, 30, 1]


def test_the_page_in_a_browser(tmp_path: Path, browser: Any) -> None:
    for seed in range(3):
        write_masked(tmp_path, f"{seed}", seed)
    check(tmp_path, *masked(tmp_path))
    page = browser.new_page(viewport={"width": 400, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "check.html").as_uri())
    pictures = page.locator(".sheet img")
    assert pictures.count() == 3
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") == 200 for i in range(3))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    assert said == []
