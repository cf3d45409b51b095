"""Findings on the page of `ssvq report`: listed with crop and state, decided by keyboard, saved as a file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.results.findings.decisions import read_decisions
from ssvq.results.report.crops import crop_window, outline_path
from ssvq.scores.ledger import LedgerWriter
from tests.support.one_image import NOWHERE, header_of, hot_cells, write_scores
from tests.support.pages import Elements
from tests.support.reports import put_scores, report
from tests.support.rows import finding_of, row_of


@pytest.fixture
def scores(output: Path) -> Path:
    """Three images with a finding each: the upper half of 128x32 pixels."""
    assert main(["findings", str(output)]) == ExitCode.DONE
    return output


def rows_of(scores: Path) -> list[dict[str, Any]]:
    (file,) = (scores / "findings").rglob("*.parquet")
    rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def test_the_page_lists_the_findings(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    capsys.readouterr()
    assert report(scores, page) == ExitCode.DONE
    assert "3 images (3 with pictures, 1 failed), 3 findings, " in capsys.readouterr().out
    text = page.read_text()
    found = Elements(text).found
    listed = [attributes for tag, attributes in found if tag == "tr" and "data-finding" in attributes]
    assert [attributes["data-severity"] for attributes in listed] == ["severe"] * 3
    assert {attributes["data-state"] for attributes in listed} == {"new"}
    assert text.count('<path class="edge" d="M') == 3
    assert "50 % of the image" in text
    assert "alert('1')" not in text, "a name is no markup"


def test_without_a_table_the_page_says_how_to_make_it(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.html"
    assert report(output, page) == ExitCode.DONE
    assert "no table of findings (make it by `ssvq findings`)" in capsys.readouterr().out
    assert f"<code>ssvq findings {output} --survey s</code>" in page.read_text()


def test_only_the_worst_are_listed_and_the_page_says_how_to_see_the_rest(scores: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert report(scores, page, "--findings", "2") == ExitCode.DONE
    text = page.read_text()
    assert len(re.findall(r"<tr data-finding", text)) == 2
    assert "The 2 worst of 3 findings are listed: <code>ssvq report --findings 3</code>" in text


def test_a_table_of_other_scores_is_said_and_findings_of_changed_images_are_not_listed(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LedgerWriter(str(scores), "run-2") as ledger:
        row = put_scores(scores, str(tmp_path / "photos" / "b.png"), "i0", [1, 2, 12, 3])
        ledger.add(row_of(row | {"fingerprint": "g", "run_id": "run-2", "run_number": 2}))
    page = tmp_path / "page.html"
    report(scores, page)
    assert "images were scored after the table of findings was made" in capsys.readouterr().err
    text = page.read_text()
    assert len(re.findall(r"<tr data-finding", text)) == 2
    assert "Images were scored after this table of findings was made" in text


def test_a_finding_whose_image_is_gone_is_listed_without_a_picture(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "b.png").unlink()
    page = tmp_path / "page.html"
    assert report(scores, page, "--pictures", "0") == ExitCode.SOME_IMAGES_FAILED
    assert f"no picture of {tmp_path / 'photos' / 'b.png'}: the source image is missing" in capsys.readouterr().err
    text = page.read_text()
    assert len(re.findall(r"<tr data-finding", text)) == 3
    assert text.count('<path class="edge"') == 2


@pytest.mark.parametrize(
    ("row", "size", "window"),
    [
        ((1000, 1000, 40, 20), (4000, 3000), (892, 882, 256, 256)),
        ((0, 0, 40, 20), (4000, 3000), (0, 0, 256, 256)),
        ((3900, 2900, 100, 100), (4000, 3000), (3744, 2744, 256, 256)),
        ((100, 100, 1000, 500), (4000, 3000), (0, 0, 1600, 1600)),
        ((0, 0, 128, 16), (128, 32), (0, 0, 128, 32)),
    ],
)
def test_a_crop_is_around_its_finding_and_within_the_image(
    row: tuple[int, ...], size: tuple[int, int], window: tuple[int, ...]
) -> None:
    found = crop_window(finding_of(dict(zip(("x", "y", "width", "height"), row, strict=True))), *size)
    assert found == window


def test_an_outline_keeps_its_holes() -> None:
    ring = shapely.Polygon([(10, 10), (30, 10), (30, 30), (10, 30)], [[(15, 15), (20, 15), (20, 20), (15, 20)]])
    assert outline_path(ring, 10, 10, 1) == "M0,0L20,0L20,20L0,20ZM5,5L10,5L10,10L5,10Z"


# In a browser


@pytest.fixture
def opened(scores: Path, tmp_path: Path, browser: Any) -> Iterator[Any]:
    """The page in a browser; a word on its console, or a request, fails the test."""
    page_file = tmp_path / "page.html"
    report(scores, page_file)
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(page_file.as_uri())
    yield page
    assert said == []


def states(page: Any) -> list[str]:
    return page.locator("#findings .state-name").all_inner_texts()


def close(page: Any) -> None:
    """End the dialog, which gives the focus back once the browser has told the page."""
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.matches('button.review, #review')")


def save(page: Any, path: Path) -> dict[str, Any]:
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    saved: dict[str, Any] = json.loads(path.read_text())
    return saved


def test_findings_are_reviewed_with_the_keyboard_and_come_back(opened: Any, scores: Path, tmp_path: Path) -> None:
    assert not opened.locator("#unsaved").is_visible()
    opened.fill("#who", "Ada")
    opened.focus("#review")
    opened.keyboard.press("Enter")
    dialog = opened.locator("#reviewer")
    assert dialog.is_visible()
    assert "finding 1 of 3 · severe · 2,048 px" in opened.inner_text("#reviewer-facts")
    opened.locator("#closeup img").evaluate_all("images => Promise.all(images.map(image => image.decode()))")
    assert opened.locator("#closeup path.edge").is_visible()
    assert opened.locator("#overview rect.edge").is_visible()
    opened.keyboard.press("o")
    assert not opened.locator("#closeup path.edge").is_visible()
    opened.keyboard.press("c")
    assert "finding 2 of 3" in opened.inner_text("#reviewer-facts"), "a decision goes on to the next"
    assert "Confirmed" in opened.inner_text("#reviewer-state")
    opened.locator("#note").press_sequentially("a shadow: crf are letters here")
    opened.keyboard.press("Enter")
    opened.keyboard.press("r")
    opened.keyboard.press("f")
    assert states(opened) == ["confirmed", "rejected", "resolved"]
    opened.keyboard.press("u")
    assert states(opened) == ["confirmed", "rejected", "new"]
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("w")
    assert states(opened) == ["confirmed", "new", "new"]
    opened.keyboard.press("u")
    close(opened)
    assert not dialog.is_visible()
    assert opened.inner_text("#unsaved-count") == "2 decisions (not saved yet)"
    saved = save(opened, tmp_path / "saved.json")
    assert opened.inner_text("#unsaved-count") == "2 decisions (saved as a file)"
    assert [(one["state"], one["decided_by"], one["note"]) for one in saved["decisions"]] == [
        ("confirmed", "Ada", None),
        ("rejected", "Ada", "a shadow: crf are letters here"),
    ]
    assert main(["label", str(scores), "--from", str(tmp_path / "saved.json")]) == ExitCode.DONE
    assert [row["state"] for row in rows_of(scores)] == ["confirmed", "rejected", "new"]
    assert rows_of(scores)[1]["note"] == "a shadow: crf are letters here"
    assert len(read_decisions(str(scores), "s")) == 2


def test_the_page_of_later_shows_what_was_decided_and_takes_it_back(opened: Any, scores: Path, tmp_path: Path) -> None:
    opened.locator("button.review").first.click()
    opened.keyboard.press("c")
    close(opened)
    save(opened, tmp_path / "first.json")
    main(["label", str(scores), "--from", str(tmp_path / "first.json"), "--who", "Bo"])
    report(scores, tmp_path / "page.html")
    opened.goto((tmp_path / "page.html").as_uri())
    assert states(opened) == ["confirmed", "new", "new"]
    assert opened.locator("#findings .said").first.inner_text().startswith("Bo, ")
    assert not opened.locator("#unsaved").is_visible(), "what has been taken is no draft any more"
    opened.locator("button.review").first.click()
    opened.keyboard.press("w")
    close(opened)
    assert states(opened) == ["new", "new", "new"]
    assert [one["state"] for one in save(opened, tmp_path / "second.json")["decisions"]] == ["new"]
    main(["label", str(scores), "--from", str(tmp_path / "second.json")])
    assert [row["state"] for row in rows_of(scores)] == ["new"] * 3


def test_decisions_outlive_a_reload_and_can_be_forgotten(opened: Any) -> None:
    opened.on("dialog", lambda dialog: dialog.accept())
    opened.locator("button.review").nth(1).click()
    opened.keyboard.press("r")
    opened.reload()
    assert states(opened) == ["new", "rejected", "new"]
    assert opened.inner_text("#unsaved-count") == "1 decision (not saved yet)"
    opened.click("#forget")
    assert states(opened) == ["new"] * 3
    opened.reload()
    assert not opened.locator("#unsaved").is_visible()


def test_filters_by_state_and_severity(opened: Any) -> None:
    from playwright.sync_api import expect

    opened.locator("button.review").first.click()
    opened.keyboard.press("r")
    close(opened)
    visible = opened.locator("#findings tbody tr:not([hidden])")
    opened.select_option("#filter-state", "new")
    expect(visible).to_have_count(2)
    assert opened.inner_text("#findings-count") == "2 of 3 findings · 2 new, 1 rejected"
    opened.click("#review")
    assert "of 2 ·" in opened.inner_text("#reviewer-facts")
    opened.keyboard.press("c")
    opened.keyboard.press("p")
    assert "confirmed" in opened.inner_text("#reviewer-state"), "what one decided stays in reach"
    close(opened)
    expect(visible).to_have_count(1)
    opened.select_option("#filter-state", "resolved")
    expect(visible).to_have_count(0)
    assert opened.locator("#review").is_disabled()
    opened.select_option("#filter-state", "")
    opened.select_option("#filter-severity", "severe")
    expect(visible).to_have_count(3)


def test_the_focus_and_names_serve_who_cannot_see_the_page(opened: Any) -> None:
    button = opened.locator("button.review").nth(1)
    name = opened.locator("#findings .name").nth(1).inner_text()
    assert button.get_attribute("aria-label") == f"Review finding 2 of {name}"
    button.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("#reviewer [data-decide=confirmed]").get_attribute("aria-pressed") == "false"
    opened.keyboard.press("c")
    opened.keyboard.press("p")
    assert opened.locator("#reviewer [data-decide=confirmed]").get_attribute("aria-pressed") == "true"
    close(opened)
    opened.locator("tr:focus-within .name", has_text=name).wait_for()
    unnamed = opened.evaluate(
        """[...document.querySelectorAll('button, input, select')].filter((one) => !(one.textContent.trim()
           || one.labels?.length || one.getAttribute('aria-label'))).length"""
    )
    assert unnamed == 0


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_hangs_over_the_edge(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.locator("button.review").first.click()
    assert opened.evaluate("document.getElementById('reviewer').getBoundingClientRect().right") <= width


def test_a_page_of_many_findings_shows_some_first(tmp_path: Path, browser: Any) -> None:
    """Every second cell is a finding of its own; the image itself is not there."""
    cells = [(slice(row, row + 1), slice(col, col + 1)) for row in range(0, 22, 2) for col in range(0, 22, 2)]
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*cells))
    main(["findings", str(out)])
    assert report(out, tmp_path / "page.html") == ExitCode.SOME_IMAGES_FAILED
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    visible = page.locator("#findings tbody tr:not([hidden])")
    assert visible.count() == 50
    assert page.inner_text("#findings-count") == "121 of 121 findings, the first 50 shown · 121 new"
    assert page.inner_text("#more-some") == "Show 50 more"
    page.click("#more-some")
    assert visible.count() == 100
    page.click("#more-all")
    assert visible.count() == 121
    assert not page.locator("#more").is_visible()
    page.locator("button.review").last.click()
    page.keyboard.press("r")
    assert "finding 121 of 121" in page.inner_text("#reviewer-facts")
    assert "No picture" in page.inner_text("#closeup")
    assert states(page)[-1] == "rejected"
