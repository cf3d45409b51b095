"""Findings: the regions of stitched heat as rows, with place, area and severity; nothing but score maps is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from numpy.typing import NDArray
from scipy.ndimage import label

from ssvq.cli import main
from ssvq.config import QueryConfig
from ssvq.errors import ExitCode, InputError
from ssvq.io import storage
from ssvq.results.export.regions_geojson import find_regions
from ssvq.results.findings.severity import DEFAULT, read_rules, severity_of
from ssvq.results.findings.work import Shares
from ssvq.results.query import query
from ssvq.scores.findings import FINDINGS, Finding
from ssvq.scores.heat_map import HeatMap
from ssvq.scores.layout import model_file
from ssvq.scores.objects import score_at_rate
from ssvq.scores.schema import LEDGER
from tests.support.one_image import HEIGHT, MODEL, PLACES, WIDTH, header_of, hot_cells, write_scores
from tests.support.rows import finding_of

NOWHERE = (None, None)
BLOCKS = ((slice(2, 5), slice(3, 9)), (slice(10, 11), slice(0, 2)))  # of cells of 4 pixels


def run(*arguments: object) -> None:
    assert main(["findings", *map(str, arguments)]) == ExitCode.DONE


def rows_of(out: Path) -> list[dict[str, Any]]:
    (file,) = (out / "findings").rglob("*.parquet")
    table = pq.ParquetFile(file).read()
    assert table.schema.equals(FINDINGS)
    return table.to_pylist()


def test_a_region_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    run(out, "--gsd", 0.5)
    rows = rows_of(out)
    assert [(row["x"], row["y"], row["width"], row["height"]) for row in rows] == [(12, 8, 24, 12), (0, 40, 8, 4)]
    large, small = rows
    assert large["area_pixels"] == 24 * 12
    assert large["image_share"] == pytest.approx(288 / (WIDTH * HEIGHT))
    assert (large["area_m2"], large["area_from"]) == (288 * 0.25, "gsd")
    assert (large["distance_max"], large["state"], large["geometry"]) == (4, "new", None)
    assert large["times_threshold"] == pytest.approx(4 / large["threshold"])
    assert (large["p_value_worst"], large["p_value_mean"]) == (0.25, 0.25)
    assert shapely.from_wkb(small["outline"]).equals(shapely.box(0, 40, 8, 44))
    assert len({row["finding_id"] for row in rows}) == 2
    assert "2 findings in 1 of 1 image" in capsys.readouterr().out


def test_without_scale_or_place_there_are_no_square_metres(tmp_path: Path) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    run(out)
    assert {(row["area_m2"], row["area_from"]) for row in rows_of(out)} == {(None, None)}


def test_the_notes_of_a_camera_give_an_estimate_which_the_setting_overrules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_scores(tmp_path, replace(header_of(NOWHERE), gsd_estimate=0.5), hot_cells(*BLOCKS))
    run(out)
    assert [(row["area_m2"], row["area_from"]) for row in rows_of(out)] == [(72, "camera"), (8, "camera")]
    assert "about 80 square metres (estimated from the camera's notes)" in capsys.readouterr().out
    run(out, "--gsd", 1)
    assert [(row["area_m2"], row["area_from"]) for row in rows_of(out)] == [(288, "gsd"), (32, "gsd")]


def test_a_region_across_tiles_is_one_finding(tmp_path: Path) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells((slice(6, 10), slice(6, 12))))
    run(out)
    (row,) = rows_of(out)
    assert row["tiles"] > 1
    assert row["area_pixels"] == 4 * 6 * 16


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_on_the_ground(tmp_path: Path, place: tuple[str, Any]) -> None:
    out = write_scores(tmp_path, header_of(place), hot_cells(*BLOCKS))
    run(out, "--gsd", 1)
    (file,) = (out / "findings").rglob("*.parquet")
    frame = geopandas.read_parquet(file)
    assert set(frame["area_from"]) == {"georeference"}
    assert frame.geometry.is_valid.all()
    ratio = frame["area_m2"] / frame["area_pixels"]
    assert ratio.max() / ratio.min() == pytest.approx(1, rel=5e-3)  # degrees have 9 decimals


def test_ids_last_over_runs_and_thresholds(tmp_path: Path) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    found = []
    for arguments in ([], [], ["--threshold", 3.5], ["--hysteresis", 0.9]):
        run(out, *arguments)
        found.append([row["finding_id"] for row in rows_of(out)])
    assert all(ids == found[0] for ids in found)


def test_small_ones_are_left_out(tmp_path: Path) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    run(out, "--smallest", 33)
    assert [row["area_pixels"] for row in rows_of(out)] == [288]


def test_none_is_a_table_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    run(out, "--threshold", 5)
    assert rows_of(out) == []
    assert "no finding in 1 image: no cell is at or over the threshold" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_hysteresis_keeps_what_hangs_together_with_a_hot_cell(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 1, (12, 15)).astype(np.float32)
    values[0, 0] = np.nan
    regions = find_regions(HeatMap(values, 4, 4), 60, 48, 0.9, 0.6)
    labels, number = label(np.nan_to_num(values) >= 0.6, np.ones((3, 3)))
    kept = [n for n in range(1, number + 1) if values[labels == n].max() >= 0.9]
    assert sorted(region.pixels for region in regions) == sorted(float((labels == n).sum()) * 16 for n in kept)
    for region in regions:
        x, y = region.worst_at
        assert values[y // 4, x // 4] == region.distance_max


# Severity


def finding(**changes: float) -> Finding:
    return finding_of({"area_pixels": 1.0, "image_share": 0.0, "times_threshold": 1.0, **changes})


@pytest.mark.parametrize(
    ("changes", "severity"),
    [({}, "minor"), ({"image_share": 0.02}, "moderate"), ({"area_m2": 0.2}, "moderate"), ({"area_m2": 1.0}, "severe")],
)
def test_default_severities(changes: dict[str, float], severity: str) -> None:
    assert severity_of(finding(**changes), DEFAULT) == severity


def test_rules_of_ones_own_come_in_their_order(tmp_path: Path) -> None:
    out = write_scores(tmp_path / "out", header_of(NOWHERE), hot_cells(*BLOCKS))
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- {severity: repair, area_pixels: 100, times_threshold: 1}\n- {severity: watch, area_pixels: 10}\n"
    )
    run(out, "--severity", rules)
    assert [row["severity"] for row in rows_of(out)] == ["repair", "watch"]
    rules.write_text("- {severity: watch, area_pixels: 0}\n- {severity: repair, area_pixels: 100}\n")
    run(out, "--severity", rules)
    assert {row["severity"] for row in rows_of(out)} == {"watch"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("severity: [", r"is no YAML"),
        ("severe", r"list"),
        ("[]", r"holds no rule"),
        ("- {severity: a, area_m3: 1}", r"area_m3"),
        ("- {area_m2: 1}", r"severity: Field required"),
    ],
)
def test_what_are_no_rules(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        read_rules(tmp_path / "rules.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")


# Thresholds by false alarms


def calibrated(out: Path, normal: NDArray[np.float64]) -> None:
    calibration = {"normal_scores": normal.tolist(), "decides": "score"}
    described = {"preprocessing": {"cell": 4}, "calibration": calibration}
    storage.put_text(model_file(str(out), MODEL), json.dumps(described))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_a_rate_is_the_least_score_with_such_a_p_value(tmp_path: Path, rate: float) -> None:
    normal = np.sort(np.random.default_rng(0).normal(10, 1, 199))
    calibrated(tmp_path, normal)
    score = score_at_rate(str(tmp_path), MODEL, rate)
    p_values = [(1 + np.count_nonzero(normal >= at)) / 200 for at in (score, np.nextafter(score, 0))]
    assert p_values[0] <= rate < p_values[1]


def test_findings_by_a_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    calibrated(out, np.linspace(8, 9, 99))
    run(out, "--false-positive-rate", 0.05)
    cells = 8  # on a side of a tile
    assert rows_of(out)[0]["threshold"] == pytest.approx(np.linspace(8, 9, 99)[-5] / cells)
    capsys.readouterr()
    assert main(["findings", str(out), "--false-positive-rate", "0.005"]) == ExitCode.WRONG_INPUT
    assert "was calibrated on 99 normal tiles, so it knows no rate below 0.01" in capsys.readouterr().err


# Asking them


def test_a_view_of_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    ask = QueryConfig(scores=str(out), sql="SELECT count(*) AS n FROM findings", format="csv")
    query(ask)
    shown = capsys.readouterr()
    assert shown.out == '"n"\n0\n'
    assert "has no table of findings: make it by `ssvq findings`" in shown.err
    run(out)
    capsys.readouterr()
    query(ask)
    assert capsys.readouterr().out == '"n"\n2\n'
    query(ask.model_copy(update={"survey": ["s"], "sql": "SELECT severity FROM findings LIMIT 1"}))
    assert capsys.readouterr().out.startswith('"severity"\n')
    (file,) = (out / "findings").rglob("*.parquet")
    file.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="run `ssvq findings` again"):
        query(ask)


def test_findings_of_an_image_that_has_changed_since_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS))
    write_scores(out, header_of(NOWHERE), hot_cells(BLOCKS[0]), name="b.tif")
    run(out)
    (segment,) = (out / "images").glob("*-b-*.parquet")
    rows = pq.read_table(segment).to_pylist()
    changed = [{**row, "fingerprint": "3-4", "run_number": 2} for row in rows]
    pq.write_table(pa.Table.from_pylist(changed, LEDGER), out / "images" / "later.parquet")
    capsys.readouterr()
    query(QueryConfig(scores=str(out), sql="SELECT DISTINCT image_id FROM findings", format="csv"))
    assert capsys.readouterr().out == '"image_id"\n"a"\n'


def test_many_images_are_shared_among_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write_scores(tmp_path, header_of(NOWHERE), hot_cells(*BLOCKS), name=f"{number}.tif")
    run(tmp_path)
    alone = rows_of(tmp_path)
    monkeypatch.setattr("ssvq.results.findings.job.SHARES", Shares(at_once=2, alone=2))
    run(tmp_path)
    assert rows_of(tmp_path) == alone
    assert len(alone) == 10


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_scores(tmp_path / "out", header_of(NOWHERE), hot_cells(*BLOCKS))
    for arguments, expected in (
        ([out, "--survey", "t"], "has no such survey, but s"),
        ([out, "--threshold", 1, "--false-positive-rate", 0.1], "exclude each other"),
        ([tmp_path / "none"], "holds no score maps"),
    ):
        assert main(["findings", *map(str, arguments)]) == ExitCode.WRONG_INPUT
        assert expected in capsys.readouterr().err
    write_scores(out, header_of(NOWHERE), name="b.tif")
    (score_map,) = (out / "tiles").rglob("b.parquet")
    score_map.write_bytes(score_map.read_bytes()[:1000])
    assert main(["findings", str(out)]) == ExitCode.WRONG_INPUT
    assert f"{score_map} is damaged" in capsys.readouterr().err
