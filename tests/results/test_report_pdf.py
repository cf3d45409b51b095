"""`ssvq report --format pdf`: what the document says on which paper, and that nothing in the data can break it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.io import parquet, storage
from ssvq.results.report.crops import IN_PRINT
from ssvq.results.report.data import read_data
from ssvq.results.report.findings import make_findings
from ssvq.results.report.formats import area, number
from ssvq.results.report.pdf.document import DocumentParts, render_document, style_sheet
from ssvq.results.report.pdf.engine import load_engine, to_pdf
from ssvq.scores.findings import FINDINGS
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from tests.conftest import REPOSITORY
from tests.support.bundles import read_whole
from tests.support.images import write_image
from tests.support.pdf import Pdf
from tests.support.reports import HOSTILE, MODEL, NOW, TILING, ledger_row, put_model, put_scores, report
from tests.support.rows import finding_of, row_of
from tests.support.surveys import make_bundle

pytest.importorskip("weasyprint", reason="the extra pdf is not installed", exc_type=(ImportError, OSError))

A4, LETTER = (595, 842), (612, 792)  # points


@pytest.fixture
def scores(output: Path) -> Path:
    """Three images with a finding each, and one that failed."""
    assert main(["findings", str(output)]) == ExitCode.DONE
    return output


def rows_of(scores: Path) -> list[dict[str, Any]]:
    (file,) = (scores / "findings").rglob("*.parquet")
    rows: list[dict[str, Any]] = parquet.read(str(file)).to_pylist()
    return rows


def put_rows(scores: Path, rows: list[dict[str, Any]], folder: str = "findings") -> None:
    partition = Partition(str(scores), "s", MODEL, TILING)
    address = partition.findings if folder == "findings" else partition.gone
    parquet.put(address, pa.Table.from_pylist(rows, FINDINGS))


def document(scores: Path | str, tmp_path: Path, *more: str) -> Pdf:
    path = tmp_path / "report.pdf"
    assert report(scores, path, *more) == ExitCode.DONE
    return Pdf(path)


def test_the_document_holds_the_survey(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(scores, tmp_path, "--author", "Anna de Vries", "--title", "Quay wall")
    assert "3 images (3 with pictures, 1 failed), 3 findings, " in capsys.readouterr().out
    assert made.metadata["Title"] == "Quay wall: s"
    assert made.metadata["Author"] == "Anna de Vries"
    assert made.metadata["CreationDate"].startswith("D:20")
    cover = made.pages[0]
    for said in ("Quay wall", "Anna de Vries", "2026-11-24", "3 images analysed", "3 findings", "1 image failed"):
        assert said in cover, said
    for said in (
        "3 images with 12 tiles were analysed. 1 image could not be analysed",
        "3 tiles (25 %) in 2 images reach the threshold of the model.",
        "There are 3 findings in 3 images: 3 severe.",
        "No person has reviewed them yet.",
        "Severe: 3 findings",
        "2,048 px, 50 % of image",
        "d.png read ends at <row> 7",
        "Of its 4 normal tiles, 1 (25 %) reaches the threshold.",
        "It is no probability",
        MODEL,
    ):
        assert said in made.text, said
    for row in rows_of(scores):
        assert row["finding_id"] in made.text


def test_figures_are_those_of_the_page(scores: Path, tmp_path: Path) -> None:
    made = document(scores, tmp_path)
    page = tmp_path / "page.html"
    report(scores, page)
    for row in rows_of(scores):
        for figure in (area(finding_of(row)), number(row["times_threshold"], 3)):
            assert figure in made.text
            assert figure in page.read_text()


@pytest.mark.parametrize(("paper", "size"), [("a4", A4), ("letter", LETTER)])
def test_pages_have_a_size_a_number_and_a_running_title(
    scores: Path, tmp_path: Path, paper: str, size: tuple[int, int]
) -> None:
    made = document(scores, tmp_path, "--paper", paper)
    assert set(made.sizes) == {size}
    number = len(made.pages)
    assert number >= 5
    assert "Page" not in made.pages[0]
    for i, page in enumerate(made.pages[1:], 2):
        assert f"Page {i} of {number}" in page
        assert "Inspection report s" in page


def test_pictures_are_within_the_document(scores: Path, tmp_path: Path) -> None:
    made = document(scores, tmp_path)
    assert made.images == 1 + 3 + 3, "the cover, the findings and the images under their heat"
    without = document(scores, tmp_path, "--pictures", "0")
    assert without.images == 3
    assert "This report was made without pictures of images." in without.text


def test_a_survey_without_a_table_of_findings_says_so(
    output: Path,
    tmp_path: Path,
) -> None:
    text = document(output, tmp_path).text
    assert "No table of findings has been made of this survey" in text
    assert "--survey s makes the table" in text


def test_a_survey_without_findings_says_so(tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    put_model(scores)
    photo = write_image(tmp_path / "a.png", np.full((32, 64, 3), 90, np.uint8))
    with LedgerWriter(str(scores), "run-1") as ledger:
        ledger.add(row_of(put_scores(scores, str(photo), "i0", [1, 2])))
    put_rows(scores, [])
    text = document(scores, tmp_path).text
    assert "There is no finding: no region of an image reaches the threshold." in text
    assert "No tile reaches the threshold of the model." in text
    assert "None: every image of the survey was analysed." in text


def test_a_survey_of_failures_alone_has_a_document(tmp_path: Path) -> None:
    put_model(tmp_path)
    with LedgerWriter(str(tmp_path), "run-1") as ledger:
        ledger.add(row_of(ledger_row("/gone.png", "i0") | {"status": "failed", "error_message": "is empty"}))
    text = document(tmp_path, tmp_path).text
    assert "No image was analysed." in text
    assert "gone.png is empty" in text


def test_rejected_findings_are_counted_and_not_listed(scores: Path, tmp_path: Path) -> None:
    rows = rows_of(scores)
    decided = {"decided_by": "Anna", "decided_at": NOW}
    rows[0] |= decided | {"state": "rejected"}
    rows[1] |= decided | {"state": "confirmed", "note": "down to the steel"}
    put_rows(scores, rows)
    text = document(scores, tmp_path).text
    assert "There are 2 findings in 2 images: 2 severe." in text
    assert "1 further finding was rejected by a person as a false alarm and is not listed." in text
    assert "By a person's review, 1 was confirmed, 1 has not been reviewed yet." in text
    assert "confirmed by Anna, 2026-11-24: “down to the steel”" in text
    assert rows[0]["finding_id"] not in text
    assert rows[2]["finding_id"] in text
    put_rows(scores, [rows[0]])
    assert "There is no finding left after the review." in document(scores, tmp_path).text


def test_changes_since_an_earlier_survey_are_told(scores: Path, tmp_path: Path) -> None:
    rows = rows_of(scores)
    since = {"previous_survey": "2025"}
    rows[0] |= since | {"change": "grown", "growth": 1.25}
    rows[1] |= since | {"change": "new"}
    rows[2] |= since
    put_rows(scores, rows)
    gone = rows[0] | {"change": "gone", "previous_id": "e" * 16, "previous_area": 1234.0}
    put_rows(scores, [gone], "gone")
    text = document(scores, tmp_path).text
    assert (
        "Compared with the earlier survey 2025: 1 is new, 1 is grown, 1 lies at places that it did not show, "
        "1 of its findings is no longer found." in text
    )
    for said in ("grown by 25 %", "not seen in 2025", "No longer found", "e" * 16, "1,234 px"):
        assert said in text


def test_only_the_worst_findings_are_listed_and_all_are_counted(scores: Path, tmp_path: Path) -> None:
    text = document(scores, tmp_path, "--findings", "2").text
    assert "This report lists the 2 worst of 3 findings" in text
    assert "There are 3 findings" in text
    assert rows_of(scores)[2]["finding_id"] not in text


def test_areas_in_square_metres_are_summed_where_they_are_known(scores: Path, tmp_path: Path) -> None:
    rows = rows_of(scores)
    rows[0] |= {"area_m2": 1.5}
    rows[1] |= {"area_m2": 0.25, "severity": "minor"}
    put_rows(scores, rows)
    text = document(scores, tmp_path).text
    assert "2 findings of known area cover 1.75 m²; that of 1 is known in pixels only." in text
    assert "1.5 m² (1 of 2)" in text


def test_a_place_on_the_ground_gives_a_map_with_the_numbers_of_findings(scores: Path, tmp_path: Path) -> None:
    text = document(scores, tmp_path).text
    assert "North is up." in text
    assert "Numbers are those of the findings" not in text, "none has a place"
    rows = rows_of(scores)
    rows[0] |= {"geometry": shapely.to_wkb(shapely.box(8.001, 47.0001, 8.002, 47.0008))}
    put_rows(scores, rows)
    assert "Numbers are those of the findings" in document(scores, tmp_path).text


def test_without_a_place_there_is_no_map(tmp_path: Path) -> None:
    put_model(tmp_path)
    photo = write_image(tmp_path / "a.png", np.full((32, 64, 3), 90, np.uint8))
    with LedgerWriter(str(tmp_path), "run-1") as ledger:
        ledger.add(row_of(put_scores(tmp_path, str(photo), "i0", [1, 20])))
    assert "North is up" not in document(tmp_path, tmp_path).text


def test_the_model_card_is_a_part(scores: Path, tmp_path: Path) -> None:
    text = document(scores, tmp_path).text
    assert "The description of the model does not say what it learned from" in text
    make_bundle(tmp_path / "model")
    bundle = read_whole(str(tmp_path / "model")).model_dump(mode="json")
    bundle["training"]["counts"] = {"images": 9, "tiles": 99, "train_normal": 1300, "train_anomalous": 60}
    storage.put_text(model_file(str(scores), MODEL), json.dumps(bundle))
    text = document(scores, tmp_path).text
    assert "training 1,300 60 learned from" in text
    assert "Whoever trained the model decides on the licence" in text
    assert "Another camera, distance, light or material moves all scores" in text


def test_nothing_in_the_data_is_markup_and_long_names_break(scores: Path, tmp_path: Path) -> None:
    long = "x" * 400 + ".png"
    with LedgerWriter(str(scores), "run-2") as ledger:
        failed = {"status": "failed", "error_message": "<img src='http://localhost:9/a.png'>", "run_number": 2}
        ledger.add(row_of(ledger_row(f"/photos/{long}", "i8") | failed))
    made = document(scores, tmp_path, "--title", "<h1>&amp;</h1>", "--author", '"><b>')
    assert HOSTILE in made.text
    assert "<img src='http://localhost:9/a.png'>" in made.text
    assert "<h1>&amp;</h1>" in made.pages[0]
    assert '"><b>' in made.pages[0]
    assert made.text.replace("\n", "").replace(" ", "").count("x" * 400) == 1
    assert made.rightmost < A4[0] - 40, "a long name hangs over the margin"


def test_a_long_survey_is_listed_whole(scores: Path, tmp_path: Path) -> None:
    rows = rows_of(scores)
    severities = ["severe"] * 9 + ["moderate"] * 11 + ["minor"] * 20
    many = [rows[i % 3] | {"finding_id": f"{i:016x}", "severity": severity} for i, severity in enumerate(severities)]
    put_rows(scores, many)
    text = document(scores, tmp_path).text
    assert "There are 40 findings in 3 images: 9 severe, 11 moderate, 20 minor." in text
    for i, severity in enumerate(severities):
        assert f"{i + 1} {severity}" in text
        assert f"{i:016x}" in text


@pytest.mark.parametrize(
    "under",
    [
        '<h3>Heading</h3><div class="large"><div class="picture"></div><div>Under<br>it<br>are<br>lines</div></div>',
        '<h3>Heading</h3><div class="pair"><div class="half">Under<br>it<br>are<br>lines</div></div>',
        '<h2>Heading</h2><p class="intro">Of one line.</p><div class="pair"><div class="half">Under<br>it</div></div>',
        "<h3>Heading</h3><table><thead><tr><th>Head</th></tr></thead><tbody><tr><td>1</td></tr><tr><td>2</td></tr>"
        "<tr><td>Under</td></tr></tbody></table>",
    ],
)
def test_no_heading_is_left_at_the_end_of_a_page(tmp_path: Path, under: str) -> None:
    heights = range(190, 258, 4)  # mm of what comes before; a page has 251
    sections = "".join(f'<section class="anew"><div style="height: {mm}mm"></div>{under}</section>' for mm in heights)
    path = tmp_path / "a.pdf"
    path.write_bytes(to_pdf(load_engine(), f"<style>{style_sheet('a4')}</style>{sections}"))
    pages = Pdf(path).pages
    assert len(pages) > len(heights), "some break within"
    for page in pages:
        assert ("Heading" in page) == ("Under" in page), page


def test_a_source_that_is_gone_is_said(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos" / "b.png").unlink()
    path = tmp_path / "report.pdf"
    assert report(scores, path) == ExitCode.SOME_IMAGES_FAILED
    assert f"no picture of {tmp_path / 'photos' / 'b.png'}: the source image is missing" in capsys.readouterr().err
    assert Pdf(path).text.count("No picture: the source image is missing") == 2


def test_the_format_follows_the_ending_unless_it_is_given(scores: Path, tmp_path: Path) -> None:
    assert document(scores, tmp_path).pages
    page = tmp_path / "page.pdf"
    assert report(scores, page, "--format", "html") == ExitCode.DONE
    assert page.read_bytes().startswith(b"<!doctype html>")
    file = tmp_path / "report"
    assert report(scores, file, "--format", "pdf") == ExitCode.DONE
    assert file.read_bytes().startswith(b"%PDF-")


def test_the_same_survey_gives_the_same_bytes(scores: Path) -> None:
    data = read_data(str(scores), "s", None)
    findings = make_findings(data.partition, data.state, data.images, PixelRule(), 10, IN_PRINT)
    parts = DocumentParts(data, findings, None, None, [])
    html = render_document(parts, "T", None, "a4", datetime(2026, 11, 27, tzinfo=UTC))
    assert to_pdf(load_engine(), html) == to_pdf(load_engine(), html)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--paper", "a5"], "--paper"),
        (["--findings", "2001"], "--findings of a PDF is at most 2,000; the page takes more"),
        (["--pictures", "501"], "--pictures of a PDF is at most 500"),
        (["--title", ""], "--title"),
        (["--model-id", "x"], "scored by such a model"),
    ],
)
def test_wrong_input_is_one_line(
    scores: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    path = tmp_path / "report.pdf"
    assert report(scores, path, *more) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not path.exists()


def test_a_missing_package_is_named(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    monkeypatch.setattr("ssvq.extras.find_spec", lambda name: None)
    assert report(scores, tmp_path / "report.pdf") == ExitCode.WRONG_INPUT
    assert "--format pdf needs weasyprint: pip install 'ssvq[pdf]'" in capsys.readouterr().err


def test_a_missing_pango_is_named(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    broken = tmp_path / "site" / "weasyprint"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError(\"cannot load library 'libpango-1.0-0'\")\n")
    monkeypatch.syspath_prepend(broken.parent)
    monkeypatch.delitem(sys.modules, "weasyprint")
    assert report(scores, tmp_path / "report.pdf") == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "apt-get install libpango-1.0-0 libpangoft2-1.0-0" in said
    assert said.count("\n") == 1


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Notes which addresses it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked = []  # type: ignore[attr-defined]
        Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


def test_no_address_but_data_is_opened(server: HTTPServer, tmp_path: Path) -> None:
    photo = write_image(tmp_path / "a.png", np.full((32, 32, 3), 90, np.uint8))
    address = f"http://127.0.0.1:{server.server_port}"
    html = (
        f'<link rel="stylesheet" href="{address}/a.css"><img src="{address}/a.png"><img src="{photo.as_uri()}">'
        f'<svg><image href="{address}/b.png" width="9" height="9"/></svg><p>text</p>'
    )
    path = tmp_path / "a.pdf"
    path.write_bytes(to_pdf(load_engine(), html))
    assert server.asked == []  # type: ignore[attr-defined]
    assert Pdf(path).images == 0
    assert Pdf(path).text.strip() == "text"


def test_a_machine_without_fonts_writes_text_too(scores: Path, tmp_path: Path) -> None:
    config = tmp_path / "fonts.conf"
    config.write_text(f"<fontconfig><cachedir>{tmp_path}/cache</cachedir></fontconfig>")
    path = tmp_path / "report.pdf"
    arguments = ["report", str(scores), "--survey", "s", "--out", str(path)]
    environment = os.environ | {"FONTCONFIG_FILE": str(config)}
    code = f"import sys; from ssvq.cli import main; sys.exit(main({arguments!r}))"
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == ExitCode.DONE, run.stderr
    assert "There are 3 findings in 3 images: 3 severe." in Pdf(path).text
