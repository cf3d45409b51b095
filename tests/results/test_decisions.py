"""What people decide about findings: kept beside the table, found again by region, and told to a training as labels."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode, InputError
from ssvq.imagery.tile_labels import LABELS, TilePlace, read_labels
from ssvq.results.findings.decisions import DECISIONS, Decision, State, read_decisions
from ssvq.results.findings.labels import label_tiles
from ssvq.results.findings.states import decide, decisions_for
from ssvq.scores.findings import FINDINGS
from ssvq.scores.schema import LEDGER
from tests.support.one_image import MODEL, NOWHERE, TILING, header_of, hot_cells, write_scores
from tests.support.rows import finding_of

LARGE, SMALL = (slice(2, 5), slice(3, 9)), (slice(10, 11), slice(0, 2))  # of cells of 4 pixels
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def box(x: float, y: float, width: float, height: float) -> shapely.Polygon:
    return shapely.box(x, y, x + width, y + height)


def made(state: State, region: shapely.Geometry, minute: int = 0, finding: str = "f", by: str = "Ada") -> Decision:
    when = NOON + timedelta(minutes=minute)
    return Decision("s", "/survey/a.tif", "a", "1-2", MODEL, TILING.tiling_id, finding, state, by, when, None, region)


# The rule


@pytest.mark.parametrize(
    ("region", "is_found"),
    [(box(0, 0, 10, 10), True), (box(0, 0, 10, 5), True), (box(0, 0, 10, 4.9), False), (box(0, 0, 20.5, 10), False)],
    ids=["the same", "half", "under half", "over twice"],
)
@pytest.mark.parametrize("state", ["confirmed", "rejected", "resolved"])
def test_a_region_is_the_same_from_an_iou_of_a_half(region: shapely.Polygon, is_found: bool, state: State) -> None:
    decision = made(state, region, finding="of another threshold")
    assert decisions_for(["f"], [box(0, 0, 10, 10)], [decision]) == [decision if is_found else None]


def test_a_confirmation_lasts_by_id_and_a_rejection_does_not() -> None:
    grown = [box(0, 0, 30, 30)]
    confirmed, rejected = made("confirmed", box(0, 0, 10, 10)), made("rejected", box(0, 0, 10, 10))
    assert decisions_for(["f"], grown, [confirmed]) == [confirmed]
    assert decisions_for(["f"], grown, [rejected]) == [None]
    assert decisions_for(["f"], grown, [confirmed, made("rejected", box(0, 0, 10, 10), 1)]) == [None]


def test_the_latest_counts_and_can_be_taken_back() -> None:
    region = box(0, 0, 10, 10)
    first, second = made("confirmed", region), made("rejected", region, 1, by="Bo")
    taken_back = made("new", region, 2)
    assert decisions_for(["f"], [region], [first, second]) == [second]
    assert decisions_for(["f"], [region], [first, second, taken_back]) == [taken_back]


def test_a_rejection_hides_no_confirmed_region() -> None:
    """Under a lower threshold a rejected region and a confirmed one become one finding, which has the former's id."""
    rejected, confirmed = made("rejected", box(0, 0, 10, 10), 1, "r"), made("confirmed", box(10, 0, 5, 10), 0, "c")
    merged = box(0, 0, 15, 10)
    assert decisions_for(["r"], [merged], [confirmed, rejected]) == [None]
    assert decisions_for(["r"], [merged], [rejected]) == [rejected]
    whole = made("rejected", merged, 2, "r")  # by someone who saw both
    assert decisions_for(["r"], [merged], [confirmed, rejected, whole]) == [whole]
    again = made("confirmed", box(10, 0, 5, 10), 3, "c")
    assert decisions_for(["r"], [merged], [confirmed, rejected, whole, again]) == [None]


def test_an_image_that_has_changed_loses_its_decisions_and_one_with_a_new_world_file_does_not() -> None:
    def state_of(fingerprint: str) -> tuple[Any, int]:
        columns = {"finding_id": "f", "image_id": "a", "fingerprint": fingerprint}
        finding = finding_of(columns | {"outline": shapely.to_wkb(box(0, 0, 10, 10))})
        (decided,), left = decide([finding], [made("confirmed", box(0, 0, 10, 10))])
        return decided.state, len(left)

    assert state_of("1-2") == ("confirmed", 0)
    assert state_of("1-2+9-9") == ("confirmed", 0)
    assert state_of("1-3") == ("new", 1)


# From the page's file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An image with two findings, and one without: the table is made."""
    out = write_scores(tmp_path / "out", header_of(NOWHERE), hot_cells(LARGE, SMALL))
    write_scores(out, header_of(NOWHERE), name="b.tif")
    assert main(["findings", str(out)]) == ExitCode.DONE
    return out


def findings(out: Path) -> list[dict[str, Any]]:
    """Large one first."""
    (file,) = (out / "findings").rglob("*.parquet")
    rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def write_page_file(path: Path, rows: list[dict[str, Any]], states: list[str], **changes: Any) -> Path:
    """The file of a page on which the findings of rows were decided; `changes` are of the file or of all decisions."""
    decisions = []
    for minute, (row, state) in enumerate(zip(rows, states, strict=True)):
        known = {name: row[name] for name in ("finding_id", "image_id", "fingerprint")}
        when = (NOON + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")
        known |= {"state": state, "decided_by": "Ada", "decided_at": when, "note": None}
        decisions.append(known | {"outline": shapely.to_wkt(shapely.from_wkb(row["outline"]))})
    for decision in decisions:
        decision |= {name: value for name, value in changes.items() if name in decision}
    file = {"survey": "s", "model_id": MODEL, "tiling_id": TILING.tiling_id, "labels": [], "decisions": decisions}
    path.write_text(json.dumps(file | {name: value for name, value in changes.items() if name in file}))
    return path


def take(out: Path, file: Path, *more: str) -> int:
    return main(["label", str(out), "--from", str(file), *more])


def test_decisions_become_states_that_outlive_the_table(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_page_file(tmp_path / "f.json", findings(out), ["confirmed", "rejected"], note=" two\nlines ")
    capsys.readouterr()
    assert take(out, file) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "2 decisions by Ada" in said
    assert "2 findings: 1 confirmed, 1 rejected" in said
    expected = [("confirmed", "Ada", NOON, "two lines"), ("rejected", "Ada", NOON + timedelta(minutes=1), "two lines")]

    def states() -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in ("state", "decided_by", "decided_at", "note")) for row in findings(out)]

    assert states() == expected
    for arguments in ([], ["--threshold", "3.5"]):
        assert main(["findings", str(out), *arguments]) == ExitCode.DONE
        assert states() == expected
    (segment,) = (out / "decisions" / "s").glob("*.parquet")
    assert pq.read_table(segment).schema.equals(DECISIONS)
    capsys.readouterr()
    sql = "SELECT state, decided_by, strftime(decided_at, '%H:%M') AS at FROM findings"
    assert main(["query", str(out), sql, "--format", "csv"]) == ExitCode.DONE
    assert capsys.readouterr().out.split("\n")[1:3] == ['"confirmed","Ada","12:00"', '"rejected","Ada","12:01"']


def test_another_model_finds_the_decision_by_its_region(out: Path, tmp_path: Path) -> None:
    take(out, write_page_file(tmp_path / "f.json", findings(out), ["confirmed", "rejected"]))
    rows, cols = LARGE
    shifted = (rows, slice(cols.start + 1, cols.stop + 1))  # IoU 5 / 7
    other = "fedcba9876543210"
    write_scores(out, header_of(NOWHERE), hot_cells(shifted, (slice(15, 18), slice(30, 33))), model=other, hour=13)
    assert main(["findings", str(out), "--model-id", other]) == ExitCode.DONE
    (file,) = (out / "findings" / "s" / other).rglob("*.parquet")
    found = {(row["x"], row["y"]): row["state"] for row in pq.ParquetFile(file).read().to_pylist()}
    assert found == {(16, 8): "confirmed", (120, 60): "new"}


def test_decisions_that_fit_no_finding_are_counted(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(out, write_page_file(tmp_path / "f.json", findings(out), ["confirmed", "rejected"]))
    capsys.readouterr()
    assert main(["findings", str(out), "--smallest", "100"]) == ExitCode.DONE
    assert "1 earlier decision is about no finding of this table" in capsys.readouterr().out
    assert main(["findings", str(out)]) == ExitCode.DONE
    assert [row["state"] for row in findings(out)] == ["confirmed", "rejected"]


def test_of_two_people_the_latest_counts_whichever_file_comes_first(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = findings(out)[:1]
    later = write_page_file(tmp_path / "l.json", rows, ["rejected"], decided_by="Bo", decided_at="2026-11-25T08:00:00Z")
    earlier = write_page_file(tmp_path / "e.json", rows, ["confirmed"], decided_by=None)
    take(out, later)
    capsys.readouterr()
    assert take(out, earlier, "--who", "Cy") == ExitCode.DONE
    told = (
        "confirmed by Cy (2026-11-24 12:00 UTC) is earlier than and does not replace rejected by Bo (2026-11-25 08:00"
    )
    assert told in capsys.readouterr().out
    assert [(row["state"], row["decided_by"]) for row in findings(out)] == [("rejected", "Bo"), ("new", None)]
    assert [one.decided_by for one in read_decisions(str(out), "s")] == ["Cy", "Bo"], "both are kept"
    take(out, later)
    assert len(read_decisions(str(out), "s")) == 2, "a file that is taken twice is one segment"
    again = write_page_file(tmp_path / "a.json", rows, ["new"], decided_at="2026-11-26T08:00:00Z")
    take(out, again)
    assert [row["state"] for row in findings(out)] == ["new", "new"]


def change(out: Path, name: str, **changes: Any) -> None:
    """A later row of the ledger of an image."""
    (segment,) = (out / "images").glob(f"*-{name}-*.parquet")
    rows = [{**row, "run_number": 2, **changes} for row in pq.read_table(segment).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, LEDGER), out / "images" / f"later-{name}.parquet")


def test_decisions_on_older_scores_are_named_and_the_others_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_scores(tmp_path / "out", header_of(NOWHERE), hot_cells(LARGE))
    write_scores(out, header_of(NOWHERE), hot_cells(LARGE), name="b.tif")
    main(["findings", str(out)])
    rows = sorted(findings(out), key=lambda row: row["image_id"])
    change(out, "b", fingerprint="3-4")
    capsys.readouterr()
    old = write_page_file(tmp_path / "old.json", rows[1:], ["rejected"])
    assert take(out, old) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "was made from older scores, and nothing was written" in said
    assert "/survey/b.tif has changed since the page was made" in said
    assert said.count("\n") == 1
    assert not (out / "decisions").exists()
    both = write_page_file(tmp_path / "both.json", rows, ["confirmed", "rejected"])
    assert take(out, both) == ExitCode.SOME_IMAGES_FAILED
    assert "left out: finding" in capsys.readouterr().err
    assert [one.image_id for one in read_decisions(str(out), "s")] == ["a"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"survey": "t"}, "has no such survey, but s (requested by --from"),
        (
            {"model_id": "f" * 16},
            f"no image of survey s was scored by such a model, but by {MODEL} (requested by --from",
        ),
        ({"image_id": "zz"}, "its image zz is not among the scored images"),
        ({"state": "wrong"}, "was not saved by a report page: decisions.0.state"),
        ({"outline": "POLYGON ((0 0, 1"}, "decisions.0.outline: is no WKT"),
        ({"outline": "POINT (0 0)"}, "decisions.0.outline: is not a valid polygon"),
        ({"outline": "POLYGON ((0 0, 4 4, 4 0, 0 4, 0 0))"}, "decisions.0.outline: is not a valid polygon"),
        ({"outline": "POLYGON ((0 0, 400 0, 400 4, 0 0))"}, "is not within /survey/a.tif of 148x88 pixels"),
        ({"decided_at": "2026-11-24T12:00:00"}, "decisions.0.decided_at"),
        ({"decided_at": "2999-01-01T12:00:00Z"}, "is in the future: check the clock"),
        ({"decisions": []}, "names no tile and no finding"),
    ],
)
def test_what_does_not_fit_writes_nothing(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    file = write_page_file(tmp_path / "f.json", findings(out)[:1], ["confirmed"], **changes)
    capsys.readouterr()
    assert take(out, file) == ExitCode.WRONG_INPUT
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not (out / "decisions").exists()
    assert not (out / "labels").exists()
    file.write_text("{")
    assert take(out, file) == ExitCode.WRONG_INPUT
    assert "was not saved by a report page" in capsys.readouterr().err


def test_a_damaged_segment_is_named_and_no_state_is_lost(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(out, write_page_file(tmp_path / "f.json", findings(out), ["confirmed", "rejected"]))
    (segment,) = (out / "decisions" / "s").glob("*.parquet")
    data = segment.read_bytes()
    for damage in (data[:100], b""):
        segment.write_bytes(damage)
        assert main(["findings", str(out)]) == ExitCode.WRONG_INPUT
        assert f"{segment} is damaged" in capsys.readouterr().err
        assert [row["state"] for row in findings(out)] == ["confirmed", "rejected"]
    lacking = pq.read_table(pa.BufferReader(data)).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {"outline": None} for row in lacking], DECISIONS), segment)
    with pytest.raises(InputError, match="lacks its state, time or region"):
        read_decisions(str(out), "s")


def test_a_table_of_before_gets_its_states(out: Path, tmp_path: Path) -> None:
    rows = findings(out)
    (file,) = (out / "findings").rglob("*.parquet")
    pq.write_table(pq.ParquetFile(file).read().drop_columns(["decided_by", "decided_at", "note"]), file)
    assert main(["query", str(out), "SELECT decided_by FROM findings"]) == ExitCode.DONE
    take(out, write_page_file(tmp_path / "f.json", rows, ["confirmed", "rejected"]))
    assert pq.ParquetFile(file).schema_arrow.equals(FINDINGS)
    assert [row["state"] for row in findings(out)] == ["confirmed", "rejected"]


# Labels


TILES = [TilePlace("/a", x, 0, 32, 32) for x in (0, 32, 64)]


def labelled(*decisions: Decision, undecided: Any = ()) -> dict[tuple[int, str], Any]:
    """Region of each row of LABELS, by the x of its tile and its label; `all` for the whole tile."""
    rows, _ = label_tiles(TILES, "1-2", decisions, undecided, [box(0, 0, 96, 32)])
    return {
        (row.place.x, row.label): "all" if row.outline is None else shapely.from_wkb(row.outline).bounds for row in rows
    }


def test_a_confirmed_region_is_anomalous_where_it_lies_and_nothing_is_said_of_the_rest() -> None:
    assert labelled(made("confirmed", box(20, 4, 20, 8))) == {
        (0, "anomalous"): (20, 4, 32, 12),
        (32, "anomalous"): (32, 4, 40, 12),
    }
    assert labelled(made("resolved", box(0, 0, 8, 8))) == {(0, "anomalous"): (0, 0, 8, 8)}
    assert labelled(made("new", box(0, 0, 8, 8))) == {}


def test_a_tile_is_normal_when_all_of_its_findings_are_rejected() -> None:
    rejected = made("rejected", box(20, 4, 20, 8), finding="r")
    assert labelled(rejected) == {(0, "normal"): "all", (32, "normal"): "all"}
    assert labelled(rejected, undecided=[box(40, 20, 8, 8)]) == {(0, "normal"): "all", (32, "normal"): (32, 4, 40, 12)}
    assert labelled(rejected, undecided=None) == {(0, "normal"): (20, 4, 32, 12), (32, "normal"): (32, 4, 40, 12)}
    confirmed = made("confirmed", box(0, 20, 8, 8), finding="c")
    assert labelled(rejected, confirmed) == {
        (0, "anomalous"): (0, 20, 8, 28),
        (0, "normal"): (20, 4, 32, 12),
        (32, "normal"): "all",
    }


def test_where_regions_overlap_the_later_decision_counts() -> None:
    whole, part = box(0, 0, 32, 32), box(0, 0, 32, 8)
    assert labelled(made("confirmed", whole, 0, "w"), made("rejected", part, 1, "p")) == {
        (0, "anomalous"): (0, 8, 32, 32),
        (0, "normal"): (0, 0, 32, 8),
    }
    assert labelled(made("confirmed", whole, 1, "w"), made("rejected", part, 0, "p")) == {
        (0, "anomalous"): whole.bounds
    }


def test_labels_of_decisions_are_added_and_taken_back(out: Path, tmp_path: Path) -> None:
    labels = out / "labels" / "s.parquet"
    rows = findings(out)

    def kinds() -> set[tuple[int, int, str, bool]]:
        table = read_labels(str(labels), "--labels")
        assert table.schema.equals(LABELS)
        return {(row["x"], row["y"], row["label"], row["outline"] is None) for row in table.to_pylist()}

    take(out, write_page_file(tmp_path / "f.json", rows[1:], ["rejected"]))
    assert kinds() == {(0, 32, "normal", True)}
    take(out, write_page_file(tmp_path / "g.json", rows[:1], ["confirmed"]))
    assert kinds() == {(0, 32, "normal", True), (0, 0, "anomalous", False), (32, 0, "anomalous", False)}
    take(out, write_page_file(tmp_path / "h.json", rows[1:], ["new"], decided_at="2026-11-25T12:00:00Z"))
    assert kinds() == {(0, 0, "anomalous", False), (32, 0, "anomalous", False)}
    hand = {"labels": [{"tile_id": "a-0-0", "label": "normal"}], "decisions": []}
    file = write_page_file(tmp_path / "i.json", [], [], **hand)
    assert take(out, file) == ExitCode.DONE
    assert kinds() == {(0, 0, "normal", True), (32, 0, "anomalous", False)}
    elsewhere = tmp_path / "mine.parquet"
    assert take(out, file, "--out", str(elsewhere), "--survey", "s") == ExitCode.DONE
    assert len(pq.read_table(elsewhere)) == 1


def test_a_labels_file_that_is_none_stops_before_anything_is_written(out: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_text("mine")
    file = write_page_file(tmp_path / "f.json", findings(out), ["confirmed", "rejected"])
    assert take(out, file, "--out", str(tmp_path / "mine.parquet")) == ExitCode.WRONG_INPUT
    assert not (out / "decisions").exists()
    assert (tmp_path / "mine.parquet").read_text() == "mine"


def test_images_of_one_name_in_two_surveys_keep_their_own_decisions(out: Path, tmp_path: Path) -> None:
    write_scores(out, header_of(NOWHERE), hot_cells(LARGE, SMALL), survey="t")
    assert main(["findings", str(out)]) == ExitCode.DONE
    (file,) = (out / "findings" / "s").rglob("*.parquet")
    rows = pq.ParquetFile(file).read().to_pylist()
    take(out, write_page_file(tmp_path / "f.json", rows, ["confirmed", "rejected"]))
    (other,) = (out / "findings" / "t").rglob("*.parquet")
    assert {row["state"] for row in pq.ParquetFile(other).read().to_pylist()} == {"new"}
    assert read_decisions(str(out), "t") == []
