"""`ssvq query` over outputs written as a scoring run writes them."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ssvq.cli import main
from ssvq.errors import ExitCode, InputError
from ssvq.io import parquet, storage
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scores.ledger import LedgerWriter, latest_rows, read_ledger
from ssvq.scores.objects import read_score_map
from ssvq.scores.schema import ADDED, SCORE_MAP
from tests.support.outputs import ledger_entry, write_output
from tests.support.rows import row_of, to_table


def test_views_span_all_surveys(tmp_path: Path) -> None:
    write_output(tmp_path, "a")
    write_output(tmp_path, "b 'quoted'", images=1)
    sql = "SELECT survey, count(*) AS n FROM tiles JOIN images USING (survey, image_id) GROUP BY survey ORDER BY survey"
    assert Scores(str(tmp_path)).sql(sql).to_pylist() == [{"survey": "a", "n": 6}, {"survey": "b 'quoted'", "n": 3}]


def test_images_is_the_latest_row_of_each_image(tmp_path: Path) -> None:
    write_output(tmp_path, "a", images=2, status="failed")
    for minutes, status in ((10, "scored"), (5, "failed")):
        with LedgerWriter(str(tmp_path), f"later-{minutes}") as ledger:
            ledger.add(row_of(ledger_entry("a", 0, status, minutes)))
    answer = Scores(str(tmp_path)).sql("SELECT image_id, status FROM images ORDER BY image_id").to_pylist()
    assert answer == [{"image_id": "a0", "status": "scored"}, {"image_id": "a1", "status": "failed"}]


def test_output_without_a_tile_has_both_views(tmp_path: Path) -> None:
    with LedgerWriter(str(tmp_path), "run") as ledger:
        ledger.add(row_of(ledger_entry("a", 0, "failed")))
    assert Scores(str(tmp_path)).sql("SELECT count(*) AS n FROM tiles").to_pylist() == [{"n": 0}]


def test_folder_names_that_look_like_patterns(tmp_path: Path) -> None:
    out = write_output(tmp_path / "scores [2026] *")
    assert Scores(str(out)).sql("SELECT count(*) AS n FROM tiles").to_pylist() == [{"n": 6}]


def test_formats_agree(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out = str(write_output(tmp_path))
    sql = "SELECT image_uri, score, score_map FROM tiles ORDER BY score LIMIT 2"
    answers = {}
    for form in ("csv", "json", "parquet", "table"):
        assert main(["query", out, sql, "--format", form]) == ExitCode.DONE
        answers[form] = capfdbinary.readouterr().out
    rows = list(csv.DictReader(io.StringIO(answers["csv"].decode())))
    assert [row["image_uri"] for row in rows] == ["/s/0.png", "/s/0.png"]
    values = json.loads(answers["json"])
    assert [row["score"] for row in values] == [0.0, 1.0]
    assert pq.read_table(io.BytesIO(answers["parquet"]))["score"].to_pylist() == [0.0, 1.0]
    assert b"2 rows" in answers["table"]
    assert b"/s/0.png" in answers["table"]


def test_answer_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(write_output(tmp_path / "scores"))
    target = tmp_path / "answer.parquet"
    assert main(["query", out, "SELECT 1 AS one", "--format", "parquet", "--out", str(target)]) == ExitCode.DONE
    assert pq.read_table(target).to_pylist() == [{"one": 1}]
    assert main(["query", out, "SELECT 1", "--out", str(tmp_path / "no" / "x")]) == ExitCode.WRONG_INPUT
    assert "cannot be written" in capsys.readouterr().err


def test_wrong_sql_is_one_line(tmp_path: Path) -> None:
    out = str(write_output(tmp_path))
    for sql in ("SELEKT 1", "SELECT nothing FROM tiles", "SELECT * FROM tilez"):
        with pytest.raises(InputError, match="SQL: ") as error:
            Scores(out).sql(sql)
        assert "\n" not in str(error.value)


def rewrite_as_of_0_1(out: Path) -> None:
    """Take away what version 0.1 did not write."""
    for path in [*(out / "tiles").rglob("*.parquet"), *(out / "images").glob("*.parquet")]:
        table = pq.read_table(path)
        later = {*ADDED, "decoder", "pages", "run_number"}.intersection(table.column_names)
        pq.write_table(table.drop_columns(sorted(later)), path)


def test_an_output_of_version_0_1_is_read_and_gone_on_with(tmp_path: Path) -> None:
    sql = "SELECT count(*) AS n, count(score_worst) AS worst FROM tiles"
    write_output(tmp_path, "a")
    write_output(tmp_path, "b", images=3)
    rewrite_as_of_0_1(tmp_path)
    assert Scores(str(tmp_path)).sql(sql).to_pylist() == [{"n": 15, "worst": 0}]
    later = {"survey": "a", "image_id": "a9", "score": 1.0, "score_worst": 2.0, "tile_id": "a9-0"}
    table = parquet.encode(to_table([later], SCORE_MAP))
    storage.put(Partition(str(tmp_path), "a", "m", "32-32-shift").score_map("a9"), table)
    with LedgerWriter(str(tmp_path), "run-c") as ledger:
        ledger.add(row_of(ledger_entry("a", 9, "scored")))
    assert Scores(str(tmp_path)).sql(sql).to_pylist() == [{"n": 16, "worst": 1}]
    old = Partition(str(tmp_path), "a", "m", "32-32-shift").score_map("a0")
    assert read_score_map(old).schema.equals(read_score_map(old).select(SCORE_MAP.names).schema)
    assert read_score_map(old, ["score_worst", "score"])["score_worst"].null_count == 3
    Path(old).write_bytes(b"PAR1")
    assert main(["query", str(tmp_path), sql]) == ExitCode.SOME_IMAGES_FAILED


def test_what_is_latest_depends_on_no_clock(tmp_path: Path) -> None:
    """The clock of the first run was a day ahead."""
    write_output(tmp_path, "a", images=1)
    for number, minutes, status in ((2, 24 * 60, "failed"), (3, 5, "scored")):
        with LedgerWriter(str(tmp_path), f"run-{number}") as ledger:
            ledger.add(row_of(ledger_entry("a", 0, status, minutes) | {"run_number": number}))
    assert Scores(str(tmp_path)).sql("SELECT status FROM images").to_pylist() == [{"status": "scored"}]
    rows = read_ledger(str(tmp_path), "a")
    assert latest_rows(rows, Partition(str(tmp_path), "a", "m", "32-32-shift"))["status"].to_pylist() == ["scored"]
