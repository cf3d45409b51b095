"""`ssvq report`: what its page says, that nothing in the data can break it, and that it works in a browser."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.io import storage
from ssvq.results.report.bins import Bins
from ssvq.results.report.data import read_data
from ssvq.results.report.ground_map import MapImage, draw_map
from ssvq.results.report.pictures import bytes_for, colour_heat, make_picture
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.layout import Partition, run_file
from ssvq.scores.ledger import LedgerWriter
from tests.support.images import write_image
from tests.support.pages import Elements
from tests.support.reports import HOSTILE, MODEL, THRESHOLD, TILING, ledger_row, put_model, put_scores, report
from tests.support.rows import row_of
from tests.support.s3 import s3_bucket, s3_server  # noqa: F401


def test_the_page_holds_the_survey(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "page.html"
    assert report(output, page) == ExitCode.DONE
    assert "3 images (3 with pictures, 1 failed)" in capsys.readouterr().out
    text = page.read_text()
    numbers = dict(re.findall(r"<dt>([^<]+)</dt><dd[^>]*>([^< ]+)", text))
    assert numbers["Images scored"] == "3"
    assert numbers["Images failed"] == "1"
    assert (numbers["Tiles"], numbers["Anomalous tiles"], numbers["Anomalous images"]) == ("12", "3", "2")
    assert (numbers["Threshold"], numbers["False alarms by calibration"]) == ("12", "25")
    assert re.findall(r'<td data-value="(\S+)"><span class="mark"', text) == ["30.0", "12.0", "2.0"]
    for said in ("equal error rate", "2026-11-24 09:30 UTC", MODEL, "ends at &lt;row&gt; 7", 'id="map"', "run-1"):
        assert said in text


def test_nothing_in_the_data_is_markup(output: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report(output, page)
    text = page.read_text()
    found = Elements(text).found
    assert [tag for tag, _ in found].count("script") == 4
    assert not [tag for tag, _ in found if tag == "b"]
    assert "alert('1')" not in text
    assert text.count("&lt;script&gt;alert(&#39;1&#39;)") >= 2
    addresses = [value for _, attributes in found for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(value and value.startswith("data:") for value in addresses)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text


def test_a_source_that_is_gone_is_said(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos" / "b.png").unlink()
    page = tmp_path / "page.html"
    assert report(output, page) == ExitCode.SOME_IMAGES_FAILED
    assert f"no picture of {tmp_path / 'photos' / 'b.png'}: the source image is missing" in capsys.readouterr().err
    text = page.read_text()
    assert text.count("<img src=") == 2
    assert "the source image is missing" in text
    assert len(re.findall(r"<tr data-bin", text)) == 3


@pytest.mark.parametrize("damage", ["cut short", "empty", "gone"])
def test_a_score_map_that_is_lost_is_named_and_the_rest_read(
    output: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Path(Partition(str(output), "s", MODEL, TILING).score_map("i0"))
    if damage == "gone":
        lost.unlink()
    else:
        lost.write_bytes(lost.read_bytes()[:200] if damage == "cut short" else b"")
    page = tmp_path / "page.html"
    assert report(output, page) == ExitCode.SOME_IMAGES_FAILED
    assert ("b.png is missing" if damage == "gone" else f"{lost} is damaged") in capsys.readouterr().err
    assert re.findall(r'<td data-value="(\S+)"><span class="mark"', page.read_text()) == ["30.0", "2.0"]


def test_wrong_input_is_one_line(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    for arguments, message in (
        ([str(output), "--survey", "x"], "has no such survey, but s"),
        ([str(output), "--survey", "s", "--model-id", "x"], f"scored by such a model, but by {MODEL}"),
        ([str(tmp_path / "photos"), "--survey", "s"], "holds no score maps"),
        ([str(output)], "--survey is missing"),
    ):
        assert main(["report", *arguments, "--out", str(page)]) == ExitCode.WRONG_INPUT
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert report(output, tmp_path / "photos" / "b.png") == ExitCode.WRONG_INPUT
    assert report(output, output / "models" / f"{MODEL}.json" / "page.html") == ExitCode.WRONG_INPUT
    assert "cannot be written" in capsys.readouterr().err
    assert not page.exists()


def test_what_else_there_is_of_the_survey_is_said(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = {"model_id": "n" * 16, "status": "scored", "recorded_at": datetime(2026, 11, 1, tzinfo=UTC)}
    with LedgerWriter(str(output), "run-0") as ledger:
        ledger.add(row_of(ledger_row("/e.png", "i5") | older))
    storage.put_text(run_file(str(output), "run-1"), json.dumps({"run_id": "run-1", "summary": None}))
    page = tmp_path / "page.html"
    assert report(output, page) == ExitCode.DONE
    said = capsys.readouterr().err
    for left_out in (f"scores of model {'n' * 16}, tiling {TILING}", "what run run-1 had still to do"):
        assert f"left out: {left_out}" in said
        assert left_out in page.read_text()


def test_scores_images_and_page_on_s3(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    out = f"{s3_bucket}/report/scores"
    photo = write_image(tmp_path / "a.png", np.full((32, 128, 3), 90, np.uint8))
    storage.put(f"{s3_bucket}/report/a.png", photo.read_bytes())
    put_model(out)
    with LedgerWriter(out, "run-1") as ledger:
        ledger.add(row_of(put_scores(out, f"{s3_bucket}/report/a.png", "i0", [1, 2, 12, 3])))
        ledger.add(row_of(put_scores(out, f"{s3_bucket}/report/gone.png", "i1", [1, 2, 3, 4])))
    page = f"{s3_bucket}/report/page.html"
    assert report(out, page) == ExitCode.SOME_IMAGES_FAILED
    text = storage.read_text(page)
    assert text.count("<img src=") == 1
    assert "the source image is missing" in text


def test_a_survey_of_failures_alone_has_a_page(tmp_path: Path) -> None:
    put_model(tmp_path)
    with LedgerWriter(str(tmp_path), "run-1") as ledger:
        ledger.add(row_of(ledger_row("/gone.png", "i0") | {"status": "failed", "error_message": "is empty"}))
    page = tmp_path / "page.html"
    assert report(tmp_path, page) == ExitCode.DONE
    assert "No image was scored." in page.read_text()
    assert "is empty" in page.read_text()


def test_the_bins_give_exact_counts_at_the_threshold(output: Path) -> None:
    data = read_data(str(output), "s", None)
    assert data.bins is not None
    bins = data.bins
    assert sum(bins.tiles) == 12
    assert sum(bins.tiles[bins.at :]) == 3  # of which one lies at the threshold itself
    assert (sum(bins.normal), sum(bins.normal[bins.at :])) == (4, 1)
    assert [image.bin >= bins.at for image in data.images] == [True, True, False]
    assert [len(image.frames) for image in data.images] == [2, 1, 0]
    just_under = float(np.nextafter(np.float32(THRESHOLD), np.float32(0)))
    assert bins.index(just_under) == bins.at - 1
    assert bins.index(-1e9) == 0
    assert bins.index(1e9) == len(bins.tiles) - 1


def test_bins_of_scores_that_are_all_one_or_negative() -> None:
    assert Bins(-5.0, 0.5, 4, -3.0, [0] * 10, [0] * 10).index(-3.0) == 4
    assert Bins(-5.0, 0.5, 0, -5.0, [0] * 10, [0] * 10).index(-5.0) == 0


def test_small_heat_survives_a_smaller_map() -> None:
    values = np.zeros((1000, 500), np.float32)
    values[777, 333] = 3
    colours, step = colour_heat(HeatMap(values, 16, 16), 1.0)
    assert max(colours.shape[:2]) <= 192
    assert colours[777 // step, 333 // step, 3] == 191
    assert (colours[..., 3] > 0).sum() == 1


def test_the_map_knows_points_and_the_antimeridian() -> None:
    assert draw_map([MapImage("a", None, 5.0)], [], THRESHOLD) is None
    points = [MapImage(str(x), shapely.Point(x, -17.0), 5.0) for x in (179.99, -179.99)]
    drawn = draw_map(points, [], THRESHOLD)
    assert drawn is not None
    west, east = (float(shape.path[1:].split(",")[0]) for shape in reversed(drawn.outlines))
    assert west < east
    assert drawn.bar_text == "200 m" or drawn.bar_text.endswith("m")


@pytest.mark.slow  # a thousand objects to put
def test_a_thousand_images_are_a_small_page(tmp_path: Path) -> None:
    """Noise is what takes most bytes; all pictures together have their share of the page however many they are."""
    put_model(tmp_path)
    rng = np.random.default_rng(0)
    photo = write_image(tmp_path / "noise.png", rng.integers(0, 256, (960, 1280, 3), dtype=np.uint8))
    size = {"image_width": 1280, "image_height": 960}
    with LedgerWriter(str(tmp_path), "run-1") as ledger:
        for i in range(1000):
            ledger.add(row_of(put_scores(tmp_path, str(photo), f"i{i:04}", [float(i), 1, 2, 3]) | size))
    page = tmp_path / "page.html"
    assert report(tmp_path, page, "--pictures", "0") == ExitCode.DONE
    text = page.read_text()
    assert len(re.findall(r"<tr data-bin", text)) == 1000
    image = read_data(str(tmp_path), "s", None).images[0]
    for number in (200, 1000):
        picture = make_picture(str(tmp_path), image, PixelRule(), bytes_for(number))
        uris = (picture.thumbnail, picture.preview, picture.heat)
        assert all(uris)
        assert len(text) + number * sum(map(len, uris)) < 20_000_000


# In a browser


@pytest.fixture
def opened(output: Path, tmp_path: Path, browser: Any) -> Iterator[Any]:
    """The page of the survey in a browser; a word on its console, or a request, fails the test."""
    page_file = tmp_path / "page.html"
    report(output, page_file)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_file.as_uri())
    yield page
    assert said == []


def names(page: Any) -> list[str]:
    return page.locator("#images .name").all_inner_texts()


def test_the_slider_moves_the_counts(opened: Any) -> None:
    def counts() -> list[str]:
        places = ("#at", "#tiles-over", "#images-over", "#false-alarms")
        return [opened.inner_text(place).split()[0] for place in places]

    assert counts() == ["12", "3", "2", "25"]
    opened.focus("#slider")
    opened.keyboard.press("ArrowRight")
    assert counts()[1:] == ["2", "1", "0"]
    assert opened.locator("#images tr.over").count() == 1
    opened.keyboard.press("Home")
    assert counts() == ["0", "12", "3", "100"]
    opened.click("#reset")
    assert counts() == ["12", "3", "2", "25"]


def test_heads_sort_the_table(opened: Any) -> None:
    assert names(opened) == [HOSTILE, "b.png", "c.png"]
    head = opened.locator("#images th", has_text="Worst score")
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert names(opened) == ["c.png", "b.png", HOSTILE]
    assert head.get_attribute("aria-sort") == "ascending"
    opened.locator("#images th button", has_text="Image").focus()
    opened.keyboard.press("Enter")
    assert names(opened) == [HOSTILE, "b.png", "c.png"]
    assert head.get_attribute("aria-sort") == "none"


def test_an_overlay_opens_large_and_closes(opened: Any) -> None:
    opened.locator(".open").nth(1).focus()
    opened.keyboard.press("Enter")
    viewer = opened.locator("#viewer")
    assert viewer.is_visible()
    assert opened.inner_text("#viewer-name") == "b.png"
    opened.locator("#stage img").evaluate_all("images => Promise.all(images.map(image => image.decode()))")
    assert opened.evaluate("[...document.querySelectorAll('#stage img')].every(image => image.naturalWidth > 0)")
    assert opened.locator("#stage .heat").is_visible()
    assert opened.locator("#stage rect.frame").count() == 1
    opened.keyboard.press("h")
    assert not opened.locator("#stage .heat").is_visible()
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#viewer-name") == "c.png"
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#viewer-name") == HOSTILE
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("Escape")
    assert not viewer.is_visible()
    # The focus goes where one stopped looking, once the browser has told the page that the dialog is closed.
    opened.locator("tr:focus-within .name", has_text="c.png").wait_for()


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_hangs_over_the_edge(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.locator(".open").first.click()
    assert opened.evaluate("document.getElementById('viewer').getBoundingClientRect().right") <= width


def test_tiles_are_labelled_and_saved_for_ssvq_label(opened: Any, output: Path, tmp_path: Path) -> None:
    assert not opened.locator("#unsaved").is_visible()
    opened.locator(".open").nth(1).click()
    box = opened.locator("#stage .layers").bounding_box()
    opened.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    opened.locator("#stage .layers").focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("n")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Enter")
    opened.keyboard.press("Enter")
    assert opened.locator("#stage rect.label").count() == 2
    assert opened.inner_text("#viewer-name") == "b.png", "the arrows move within the picture"
    opened.keyboard.press("Escape")
    assert opened.inner_text("#unsaved-count") == "2 tile labels: 1 anomalous, 1 normal (not saved yet)"
    with opened.expect_download() as download:
        opened.click("#save")
    assert download.value.suggested_filename == "s-review.json"
    saved = tmp_path / "saved.json"
    download.value.save_as(saved)
    out = tmp_path / "labels.parquet"
    assert main(["label", str(output), "--survey", "s", "--from", str(saved), "--out", str(out)]) == ExitCode.DONE
    rows = pq.read_table(out).select(["x", "y", "label"]).to_pylist()
    assert sorted(rows, key=lambda row: row["x"]) == [
        {"x": 32, "y": 0, "label": "anomalous"},
        {"x": 64, "y": 0, "label": "normal"},
    ]
