"""`ssvq report --format pdf`: its text is that of the survey, on the paper that was asked for."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pypdfium2
import pytest

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.io import storage
from ssvq.scores.layout import model_file
from tests.support.one_image import MODEL as ONE_MODEL
from tests.support.one_image import UTM, header_of, hot_cells, write_scores
from tests.support.reports import HOSTILE, report
from tests.support.surveys import make_bundle

MM = 72 / 25.4  # points

try:
    import weasyprint as _  # noqa: F401
except OSError as error:
    pytest.skip(f"a library of the system is missing: {error}", allow_module_level=True)


def text_of(file: Path) -> str:
    """All text of a PDF, with single blanks."""
    with pypdfium2.PdfDocument(file) as document:
        return " ".join(" ".join(page.get_textpage().get_text_bounded() for page in document).split())


def pdf(out: Path, file: Path, *more: str) -> str:
    assert report(out, file, "--format", "pdf", *more) == ExitCode.DONE
    return text_of(file)


def rows_of(out: Path) -> list[dict[str, Any]]:
    (file,) = (out / "findings").rglob("*.parquet")
    rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def test_the_document_holds_what_the_page_holds(output: Path, tmp_path: Path) -> None:
    assert main(["findings", str(output)]) == ExitCode.DONE
    text = pdf(output, tmp_path / "a.pdf", "--title", "Pier 4 & 5", "--author", "A. N. Other <b>")
    for said in (
        "Pier 4 & 5",
        "A. N. Other <b>",
        "3 images with 12 tiles were analysed. 1 images could not be analysed",
        "3 findings are in 3 images.",
        "3 not reviewed yet.",
        "severe 3 3 not known",
        "3 tiles (25 %) reach the threshold",
        "ends at <row> 7",
        HOSTILE,
        "Map",
    ):
        assert said in text
    for row in rows_of(output):
        assert row["finding_id"] in text


@pytest.mark.parametrize(("paper", "size"), [("a4", (210 * MM, 297 * MM)), ("letter", (612, 792))])
def test_the_paper(output: Path, tmp_path: Path, paper: str, size: tuple[float, float]) -> None:
    pdf(output, tmp_path / "a.pdf", "--paper", paper)
    with pypdfium2.PdfDocument(tmp_path / "a.pdf") as document:
        assert [page.get_size() for page in document] == [pytest.approx(size, abs=0.5)] * len(document)


def test_without_findings_it_says_so(output: Path, tmp_path: Path) -> None:
    assert "This survey has no table of findings." in pdf(output, tmp_path / "a.pdf")
    assert main(["findings", str(output), "--threshold", "99"]) == ExitCode.DONE
    assert "No finding: no region of an image reaches the threshold." in pdf(output, tmp_path / "b.pdf")


def test_rejected_findings_are_counted_and_not_listed(output: Path, tmp_path: Path) -> None:
    assert main(["findings", str(output)]) == ExitCode.DONE
    (first, second, third) = rows_of(output)
    decided = [
        {"finding_id": row["finding_id"], "image_id": row["image_id"], "fingerprint": row["fingerprint"]}
        | {"state": state, "decided_by": "Eve", "decided_at": "2026-11-27T10:00:00.000Z", "note": note}
        | {"outline": "POLYGON ((0 0, 128 0, 128 16, 0 16, 0 0))"}
        for row, state, note in ((first, "rejected", ""), (second, "confirmed", "to be <painted>"))
    ]
    identity = {"survey": "s", "model_id": first["model_id"], "tiling_id": first["tiling_id"]}
    review = tmp_path / "review.json"
    review.write_text(json.dumps(identity | {"decisions": decided}))
    assert main(["label", str(output), "--from", str(review)]) == ExitCode.DONE
    text = pdf(output, tmp_path / "a.pdf")
    assert first["finding_id"] not in text
    assert third["finding_id"] in text
    assert (
        "Review: 1 confirmed by a person, 0 resolved, 1 not reviewed yet. 1 more were rejected as false alarms" in text
    )
    assert "confirmed, by Eve, 2026-11-27 10:00 UTC" in text
    assert "to be <painted>" in text


def test_areas_and_the_model_card(tmp_path: Path) -> None:
    out = write_scores(tmp_path / "out", header_of(UTM), hot_cells((slice(2, 5), slice(3, 9))))
    described = json.loads(
        (make_bundle(tmp_path / "model").model_copy(update={"model_id": ONE_MODEL})).model_dump_json()
    )
    storage.put_text(model_file(str(out), ONE_MODEL), json.dumps(described))
    assert main(["findings", str(out)]) == ExitCode.DONE
    assert report(out, tmp_path / "a.pdf", "--format", "pdf") == ExitCode.SOME_IMAGES_FAILED, "the image is not there"
    text = text_of(tmp_path / "a.pdf")
    assert "1 findings are in 1 images, with 0.115 m² in all." in text
    assert "0.115 m², 2.2 % of the image" in text
    assert "No picture: the source image is missing" in text
    assert "A person decides on each finding." in text
    assert "(ssvq query SCORES --named drift)" in text, "a command is code, without its marks"
    assert "expects up to" in text
    assert "5 % false positives" in text


def test_as_many_findings_as_are_asked_for(output: Path, tmp_path: Path) -> None:
    assert main(["findings", str(output)]) == ExitCode.DONE
    text = pdf(output, tmp_path / "a.pdf", "--findings", "1", "--pictures", "0")
    ids = [row["finding_id"] for row in rows_of(output)]
    assert [id_ in text for id_ in ids] == [True, False, False]
    assert "The 1 worst of 3 findings are listed." in text
    assert "the image with the worst score" not in text


def test_where_no_pdf_can_be_made_one_line_says_what_to_install(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    assert report(output, tmp_path / "a.pdf", "--format", "pdf") == ExitCode.WRONG_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install ssvq[pdf]" in line
    assert not (tmp_path / "a.pdf").exists()
