"""`ssvq label`: labels of tiles that exist, added to what is there; everything else is one line and writes nothing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.imagery.tile_labels import LABELS
from tests.support.reports import MODEL, TILING


def label(scores: Path, out: Path, *more: str) -> int:
    return main(["label", str(scores), "--survey", "s", "--out", str(out), *more])


def write_marks(path: Path, marks: dict[str, str], **changes: Any) -> Path:
    listed = [{"tile_id": tile_id, "label": said} for tile_id, said in marks.items()]
    path.write_text(json.dumps({"survey": "s", "model_id": MODEL, "tiling_id": TILING, "labels": listed} | changes))
    return path


def test_tiles_of_a_csv_are_labelled_and_added_to(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "labels.parquet"
    (tmp_path / "ids.csv").write_text("score,tile_id\n12,i0-0-2\n30,i2-0-1\n")
    assert label(output, out, "--tiles", str(tmp_path / "ids.csv"), "--as", "normal", "--who", "Ada") == ExitCode.DONE
    assert "2 tiles labelled (2 normal, 0 anomalous), 2 in all" in capsys.readouterr().out
    marks = write_marks(tmp_path / "marks.json", {"i2-0-1": "anomalous", "i1-0-0": "anomalous"})
    assert label(output, out, "--from", str(marks), "--who", "Bo") == ExitCode.DONE
    table = pq.read_table(out)
    assert table.schema.equals(LABELS)
    rows = {(Path(row["image_uri"]).name[:1], row["x"]): row for row in table.to_pylist()}
    assert {place: (row["label"], row["who"]) for place, row in rows.items()} == {
        ("b", 64): ("normal", "Ada"),
        ("<", 32): ("anomalous", "Bo"),
        ("c", 0): ("anomalous", "Bo"),
    }
    assert all((row["fingerprint"], row["y"], row["width"], row["height"]) == ("f", 0, 32, 32) for row in rows.values())


def test_ids_without_a_heading(output: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("i0-0-2\n\ni0-0-3\n")
    assert label(output, tmp_path / "l.parquet", "--tiles", str(tmp_path / "ids.csv"), "--as", "normal") == 0
    assert len(pq.read_table(tmp_path / "l.parquet")) == 2


@pytest.mark.parametrize(
    ("marks", "changes", "said"),
    [
        ({"i0-0-9": "normal", "i0-0-1": "normal"}, {}, "1 tile not among the tiles of survey s in"),
        ({"zz-0-9": "normal"}, {}, "zz-0-9"),
        ({"../x": "normal"}, {}, "../x"),
        ({}, {}, "names no tile"),
        ({"i0-0-1": "rusty"}, {}, "was not saved by a report page: labels.0.label"),
        ({"i0-0-1": "normal"}, {"survey": "t"}, "--survey s: the labels of"),
        ({"i0-0-1": "normal"}, {"model_id": "other"}, "--model-id other"),
    ],
)
def test_what_does_not_fit_writes_nothing(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    marks: dict[str, str],
    changes: dict[str, str],
    said: str,
) -> None:
    out = tmp_path / "labels.parquet"
    assert label(output, out, "--from", str(write_marks(tmp_path / "m.json", marks, **changes))) == ExitCode.WRONG_INPUT
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not out.exists()


def test_a_file_that_is_no_labels_is_left_alone(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "labels.parquet"
    out.write_text("mine")
    marks = write_marks(tmp_path / "m.json", {"i0-0-1": "normal"})
    assert label(output, out, "--from", str(marks)) == ExitCode.WRONG_INPUT
    assert "is not a Parquet file" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert label(output, tmp_path / "l.parquet", "--from", str(tmp_path / "gone.json")) == ExitCode.WRONG_INPUT
    assert "gone.json is not there" in capsys.readouterr().err


def test_csv_of_a_spreadsheet_and_its_column_survey(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_bytes(b"\xef\xbb\xbfsurvey;tile_id\r\ns;i0-0-2\r\n")
    assert label(output, tmp_path / "l.parquet", "--tiles", str(ids), "--as", "normal") == ExitCode.DONE
    ids.write_text("survey,tile_id\ns,i0-0-2\nother,i0-0-3\n")
    assert label(output, tmp_path / "m.parquet", "--tiles", str(ids), "--as", "normal") == ExitCode.WRONG_INPUT
    assert "has tiles of survey other, and --survey is s: give those of one" in capsys.readouterr().err
    assert not (tmp_path / "m.parquet").exists()


def test_tiles_that_two_surveys_have_must_say_which_they_are_of(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, path in enumerate(sorted((output / "images").glob("*.parquet"))):
        table = pq.read_table(path)
        column = table.schema.get_field_index("survey")
        table = table.set_column(column, "survey", pa.array(["other"] * len(table)))
        pq.write_table(table, output / "images" / f"run-9-{number:05}.parquet")
    ids = tmp_path / "ids.csv"
    ids.write_text("tile_id\ni0-0-2\n")
    assert label(output, tmp_path / "l.parquet", "--tiles", str(ids), "--as", "normal") == ExitCode.WRONG_INPUT
    assert "survey other has images of the same names: add a column survey" in capsys.readouterr().err
    ids.write_text("survey,tile_id\ns,i0-0-2\n")
    assert label(output, tmp_path / "l.parquet", "--tiles", str(ids), "--as", "normal") == ExitCode.DONE
