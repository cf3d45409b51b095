"""Outputs with objects that are damaged or of something else: named, and the rest is read."""

import io
import json
import random
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode, InputError
from ssvq.io import parquet, storage
from ssvq.results import query
from ssvq.scores import damage
from ssvq.scores.layout import Partition
from ssvq.scores.ledger import LedgerWriter, no_longer_there, read_ledger, read_state
from ssvq.scores.objects import read_score_map
from ssvq.scores.partitions import METADATA
from ssvq.scores.schema import SCORE_MAP
from tests.support.outputs import ledger_entry, write_output
from tests.support.rows import row_of

MUTATIONS = 40
COUNT = "SELECT count(image_id) AS n FROM tiles"


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


FOREIGN = as_parquet(pa.table({"a": [1], "score": ["x"]}))
DAMAGES = {
    "empty": b"",
    "text": b"<html>404</html>" * 100,
    "magic alone": b"PAR1PAR1",
    "another table": FOREIGN,
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Four images of survey a, two of b, three tiles each."""
    write_output(tmp_path, "a", images=4)
    write_output(tmp_path, "b", images=2)
    for path in (tmp_path / "tiles").rglob("*.parquet"):
        table = pq.read_table(path)
        place = pa.array([shapely.to_wkb(shapely.box(0, 0, 1, 1))] * len(table), pa.binary())
        whole = table.set_column(table.column_names.index("geometry"), "geometry", place)
        path.write_bytes(parquet.encode(whole.cast(SCORE_MAP)))
    return tmp_path


def tile_object(output: Path, image: int = 1) -> Path:
    return Path(Partition(str(output), "a", "m", "32-32-shift").score_map(f"a{image}"))


def damaged(path: Path, damage: str) -> Path:
    data = path.read_bytes()
    path.write_bytes({**DAMAGES, "cut short": data[: len(data) // 2]}[damage])
    return path


@pytest.mark.parametrize("what", [*DAMAGES, "cut short"])
@pytest.mark.parametrize("image", [0, 3])  # the first object decides on the columns
def test_a_damaged_object_is_named_and_the_rest_read(
    output: Path, what: str, image: int, capfd: pytest.CaptureFixture[str]
) -> None:
    lost = damaged(tile_object(output, image), what)
    assert main(["query", str(output), COUNT, "--format", "csv"]) == ExitCode.SOME_IMAGES_FAILED
    said = capfd.readouterr()
    assert said.out.split() == ['"n"', "15"]
    assert said.err.count("\n") == 1
    assert f"left out: {lost} is damaged (" in said.err
    assert "run `ssvq score` again" in said.err


def test_a_damaged_object_of_a_ready_made_query(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lost = damaged(tile_object(output), "cut short")
    for name in ("worst-tiles", "by-image", "trend", "drift"):
        assert main(["query", str(output), "--named", name]) == ExitCode.SOME_IMAGES_FAILED
        assert str(lost) in capfd.readouterr().err


@pytest.mark.parametrize("what", [name for name in DAMAGES if name != "another table"])
def test_a_damaged_segment_of_the_ledger(output: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Of what only that segment knew, nothing is known; the rest is."""
    (segment,) = (output / "images").glob("run-a*.parquet")
    damaged(segment, what)
    sql = "SELECT DISTINCT survey FROM images"
    assert main(["query", str(output), sql, "--format", "csv"]) == ExitCode.SOME_IMAGES_FAILED
    said = capfd.readouterr()
    assert said.out.split() == ['"survey"', '"b"']
    assert f"{segment} is damaged" in said.err


def test_a_ledger_that_is_damaged_altogether(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for segment in (output / "images").glob("*.parquet"):
        damaged(segment, "empty")
    assert main(["query", str(output), COUNT]) == ExitCode.WRONG_INPUT
    assert "every segment of the ledger" in capfd.readouterr().err.splitlines()[-1]


def test_a_table_of_something_else_in_the_ledger(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (output / "images" / "z.parquet").write_bytes(FOREIGN)
    sql = "SELECT count(*) AS n FROM images"
    assert main(["query", str(output), sql, "--survey", "a", "--format", "csv"]) == ExitCode.DONE
    assert capfd.readouterr().out.split() == ['"n"', "4"]
    assert main(["query", str(output), COUNT, "--survey", "x'; DROP VIEW tiles; --"]) == ExitCode.WRONG_INPUT
    assert "it has a, b" in capfd.readouterr().err


def test_a_published_file_that_is_damaged_gives_way_to_the_objects(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LedgerWriter(str(output), "again") as ledger:
        for image in range(4):
            version = storage.stat(str(tile_object(output, image))).version
            ledger.add(row_of(ledger_entry("a", image, "scored", 5) | {"object_version": version, "fingerprint": "f"}))
    assert main(["publish", str(output), "--survey", "a"]) == ExitCode.DONE
    published = Path(Partition(str(output), "a", "m", "32-32-shift").published)
    sound = published.read_bytes()
    damaged_pages = bytearray(sound)
    damaged_pages[4:600] = bytes(596)
    for data, code in (
        (bytes(damaged_pages), ExitCode.SOME_IMAGES_FAILED),  # its metadata still says what the ledger says
        (sound[:-10], ExitCode.DONE),
        (FOREIGN, ExitCode.DONE),
        (as_parquet(pa.table({"a": [1]}).replace_schema_metadata({METADATA: b"[1"})), ExitCode.DONE),
        (as_parquet(pa.table({"a": [1]}).replace_schema_metadata({METADATA: b"[1]"})), ExitCode.DONE),
    ):
        published.write_bytes(data)
        capfd.readouterr()
        total = "SELECT count(*) AS n, sum(score) AS s FROM tiles"
        assert main(["query", str(output), total, "--survey", "a", "--format", "json"]) == code
        said = capfd.readouterr()
        assert json.loads(said.out) == [{"n": 12, "s": 192.0}]
        assert (f"{published} is damaged" in said.err) == (code != ExitCode.DONE)


def test_healthy_and_wrong_queries_do_not_look_at_every_object(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(query, "damaged_objects", lambda *_: pytest.fail("every object was read"))
    assert main(["query", str(output), COUNT]) == ExitCode.DONE
    for sql in ("SELEKT 1", "SELECT nothing FROM tiles", "SELECT 1 FROM nowhere"):
        assert main(["query", str(output), sql]) == ExitCode.WRONG_INPUT
        assert "SQL: " in capsys.readouterr().err


def test_a_storage_that_fails_is_no_damage(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> pa.NativeFile:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(parquet, "opened", fails)
    with pytest.raises(PermissionError):
        damage.damaged_objects(str(output))


def test_what_only_duckdb_cannot_read_is_found(output: Path) -> None:
    without_columns = output / "images" / "none.parquet"
    without_columns.write_bytes(as_parquet(pa.table({})))
    assert list(damage.damaged_objects(str(output))) == [str(without_columns)]


@pytest.mark.parametrize("folder", ["tiles", "images"])
def test_whatever_the_bytes_a_query_answers_or_says_why(
    output: Path, folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tile_object(output) if folder == "tiles" else next((output / "images").glob("run-a*"))
    sound = path.read_bytes()
    rng = random.Random(3)
    for _ in range(MUTATIONS // 2):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 1, 4, 16))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        code = main(["query", str(output), f"SELECT * FROM {folder}", "--format", "csv"])
        said = capfd.readouterr()
        assert code in (ExitCode.DONE, ExitCode.SOME_IMAGES_FAILED, ExitCode.WRONG_INPUT)
        assert "Traceback" not in said.err
        assert "Stack Trace" not in said.err
        assert said.err.count("\n") == (code != ExitCode.DONE)
        if code != ExitCode.DONE:
            assert path.name in said.err
        if code == ExitCode.SOME_IMAGES_FAILED:
            assert said.out.count("\n") == (16 if folder == "tiles" else 3)


def test_whatever_the_bytes_a_score_map_is_read_or_refused(output: Path) -> None:
    path = tile_object(output)
    sound = path.read_bytes()
    rng = random.Random(4)
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 4, 16))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(InputError):
            read_score_map(str(path), SCORE_MAP.names)


def test_control_characters_of_a_name_do_not_reach_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LedgerWriter(str(tmp_path), "run") as ledger:
        ledger.add(row_of(ledger_entry("a", 0, "failed"), image_uri="/a/\x1b[2J\n\u202egnp.png", error_message="\x07"))
    assert main(["query", str(tmp_path), "--named", "failures"]) == ExitCode.DONE
    said = capfd.readouterr().out
    assert r"/a/\x1b[2J\n\u202egnp.png" in said
    assert len(said.splitlines()) == 4
    assert all(line.isprintable() for line in said.splitlines())


def test_names_in_sql_are_text(tmp_path: Path) -> None:
    name = "x'; DROP TABLE images; --"
    write_output(tmp_path, name, images=1)
    for arguments in (["--survey", name], ["--survey", name, "--threshold", "nan"]):
        assert main(["query", str(tmp_path), COUNT, *arguments]) == ExitCode.DONE
    assert main(["query", str(tmp_path), COUNT, "--model-id", "m' OR '1'='1"]) == ExitCode.WRONG_INPUT
    csv = str(tmp_path / "a.csv")
    for image in ("0.png' OR '1'='1", "%", '"', "'"):
        arguments = ["export", str(tmp_path), "--image", image, "--format", "csv", "--out", csv]
        assert main(arguments) == ExitCode.WRONG_INPUT
    assert duckdb.sql("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("column", ["survey", "model_id", "tiling_id", "image_id"])
@pytest.mark.parametrize("name", ["../../elsewhere", "..", "a/b", ""])
def test_a_ledger_that_leads_elsewhere_is_not_followed(
    output: Path, column: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for place in ("elsewhere", "tiles/elsewhere", "tiles/a/elsewhere"):
        (output / place).mkdir()
        (output / place / "z.parquet").write_bytes(tile_object(output).read_bytes())
    with LedgerWriter(str(output), "hostile") as ledger:
        ledger.add(row_of(ledger_entry("a", 9, "scored") | {column: name, "image_uri": "/hostile.png"}))
    assert main(["query", str(output), COUNT, "--format", "csv"]) == ExitCode.DONE
    assert capfd.readouterr().out.split() == ['"n"', "18"]
    sql = "SELECT count(*) AS n FROM images WHERE image_uri = '/hostile.png'"
    assert main(["query", str(output), sql, "--format", "csv"]) == ExitCode.DONE
    assert capfd.readouterr().out.split() == ['"n"', "0"]


def test_a_ledger_that_leads_elsewhere_has_nothing_removed(output: Path) -> None:
    """`ssvq score --prune` removes the objects of images that are gone, by the image_id that the ledger has."""
    with LedgerWriter(str(output), "hostile") as ledger:
        ledger.add(row_of(ledger_entry("a", 9, "scored") | {"image_id": "../../../../images/run-a-00000"}))
    partition = Partition(str(output), "a", "m", "32-32-shift")
    gone = no_longer_there([], read_state(read_ledger(str(output), "a"), partition))
    assert set(gone) == {"a0", "a1", "a2", "a3"}


def test_whatever_the_bytes_a_segment_of_the_ledger_is_read_or_refused(output: Path) -> None:
    (path,) = (output / "images").glob("run-a*")
    sound = path.read_bytes()
    rng = random.Random(5)
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 4, 16))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(InputError):
            read_ledger(str(output), "a")
