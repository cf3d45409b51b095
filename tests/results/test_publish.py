"""`ssvq publish`, what `ssvq query` makes of it, and the ready-made queries."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from ssvq.cli import main
from ssvq.errors import ExitCode
from ssvq.io import parquet, storage
from ssvq.results.named import stability_index
from ssvq.results.publish import ROWS_IN_GROUP
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.schema import GEO, SCORE_MAP
from tests.support.rows import row_of, to_table

MODEL, TILING = "m" * 16, "32-32-shift"
ALL = "SELECT * FROM tiles ORDER BY survey, tile_id"


def put_image(out: Path, survey: str, name: str, scores: list[float], *, run: str = "run-1", minutes: int = 0) -> None:
    """An image as a scoring run leaves it: its object, and a row of the ledger that has the version of it."""
    partition = Partition(str(out), survey, MODEL, TILING)
    identity = {"survey": survey, "image_uri": f"/{survey}/{name}.png", "image_id": f"{survey}-{name}"}
    identity |= {"fingerprint": f"{name}-{minutes}", "model_id": MODEL, "tiling_id": TILING, "run_id": run}
    outline = shapely.box(8, 47, 8.1, 47.1)
    rows: list[dict[str, Any]] = [
        identity
        | {"tile_id": f"{survey}-{name}-0-{i}", "row": 0, "col": i, "x": 32 * i, "y": 0, "width": 32, "height": 32}
        | {"score": score, "p_value": 1 / (1 + score), "threshold": 5.0, "is_anomalous": score >= 5}
        | {"score_map": [[np.float16(score)]], "geometry": shapely.to_wkb(outline)}
        | {"bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), outline.bounds, strict=True))}
        for i, score in enumerate(scores)
    ]
    info = storage.put(partition.score_map(identity["image_id"]), parquet.encode(to_table(rows, SCORE_MAP)))
    with LedgerWriter(str(out), f"{run}-{survey}-{name}-{minutes}") as ledger:
        ledger.add(
            row_of(
                identity
                | {"status": "scored", "tiles": len(scores), "object_version": info.version}
                | {"recorded_at": datetime(2026, 11, 24, tzinfo=UTC) + timedelta(minutes=minutes), "run_number": 1}
            )
        )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two surveys; one has an image of low scores, one of high scores, and one without a tile."""
    put_image(tmp_path, "a", "low", [1, 2, 3])
    put_image(tmp_path, "a", "high", [4, 9, 2])
    put_image(tmp_path, "a", "none", [])
    put_image(tmp_path, "b", "only", [6, 7])
    return tmp_path


def publish(out: Path, survey: str = "a") -> int:
    return main(["publish", str(out), "--survey", survey])


def published(out: Path, survey: str = "a") -> Path:
    return Path(Partition(str(out), survey, MODEL, TILING).published)


def test_the_file_holds_every_row_and_says_of_what(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Scores(str(output)).sql(ALL).to_pylist()
    assert publish(output) == ExitCode.DONE
    assert "6 tiles of 3 images" in capsys.readouterr().out
    assert Scores(str(output)).sql(ALL).to_pylist() == before
    metadata = pq.read_metadata(published(output)).metadata
    described = json.loads(metadata[b"ssvq"])
    assert (described["survey"], described["model_id"], described["runs"]) == ("a", MODEL, ["run-1"])
    assert json.loads(metadata[b"geo"]) == GEO
    assert not [path for path in (output / "staging").rglob("*") if path.is_file()]


def test_images_stand_in_the_order_of_their_worst_tile(output: Path) -> None:
    publish(output)
    assert pq.read_table(published(output))["score"].to_pylist() == [4, 9, 2, 1, 2, 3]


def test_the_published_file_is_read_in_place_of_the_objects(output: Path) -> None:
    publish(output)
    for survey in ("a", "b"):
        for path in (output / "tiles" / survey).rglob("*.parquet"):
            path.unlink()
    assert Scores(str(output)).sql("SELECT survey, count(*) AS n FROM tiles GROUP BY survey").to_pylist() == [
        {"survey": "a", "n": 6}
    ]


@pytest.mark.parametrize("change", ["an image more", "an image scored anew", "an image removed"])
def test_a_file_that_is_no_longer_true_is_not_used(output: Path, change: str) -> None:
    publish(output)
    if change == "an image more":
        put_image(output, "a", "more", [8], run="run-2", minutes=1)
    elif change == "an image scored anew":
        put_image(output, "a", "low", [8], run="run-2", minutes=1)
    else:
        removed = {"survey": "a", "image_id": "a-low", "model_id": MODEL, "tiling_id": TILING, "status": "removed"}
        with LedgerWriter(str(output), "run-3") as ledger:
            ledger.add(row_of(removed, run_id="run-3", run_number=1, recorded_at=datetime(2026, 11, 25, tzinfo=UTC)))
        Path(Partition(str(output), "a", MODEL, TILING).score_map("a-low")).unlink()
    expected = {"an image more": 7, "an image scored anew": 4, "an image removed": 3}[change]
    count = "SELECT count(*) AS n FROM tiles WHERE survey = 'a'"
    assert Scores(str(output)).sql(count).to_pylist() == [{"n": expected}]
    publish(output)
    assert len(pq.read_table(published(output))) == expected
    assert Scores(str(output)).sql(count).to_pylist() == [{"n": expected}]


def test_publishing_again_does_nothing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(output)
    before = published(output).stat().st_mtime_ns
    assert publish(output) == ExitCode.DONE
    assert "nothing to do" in capsys.readouterr().out
    assert published(output).stat().st_mtime_ns == before


def test_wrong_input_is_one_line(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(output, "c") == ExitCode.WRONG_INPUT
    assert "has no such survey, but a, b" in capsys.readouterr().err
    damaged = Path(Partition(str(output), "a", MODEL, TILING).score_map("a-low"))
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert publish(output) == ExitCode.WRONG_INPUT
    assert f"{damaged} is damaged" in capsys.readouterr().err
    damaged.unlink()
    assert publish(output) == ExitCode.WRONG_INPUT
    assert f"{damaged} is missing" in capsys.readouterr().err
    assert not published(output).exists()


def test_one_image_and_high_scores_read_a_small_part(tmp_path: Path) -> None:
    """Of 60 images in row groups: statistics leave few for a threshold, the Bloom filter one or two for an image."""
    rng = np.random.default_rng(0)
    tiles = ROWS_IN_GROUP // 10
    for i in range(60):
        put_image(tmp_path, "a", f"{i:02}", [float(x) for x in rng.uniform(0, 1, tiles - 1)] + [float(i)])
    publish(tmp_path)
    metadata = pq.read_metadata(published(tmp_path))
    assert metadata.num_row_groups >= 6
    scores = metadata.schema.to_arrow_schema().names.index("score")
    highest = [metadata.row_group(i).column(scores).statistics.max for i in range(metadata.num_row_groups)]
    assert highest == sorted(highest, reverse=True)
    import duckdb

    file = str(published(tmp_path))
    plan = duckdb.sql(
        f"SELECT row_group_id, bloom_filter_excludes FROM parquet_bloom_probe('{file}', 'image_id', 'a-17')"
    ).fetchall()
    assert sum(not excluded for _, excluded in plan) <= 2


def test_a_damaged_object_is_named_and_the_rest_is_read(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = Path(Partition(str(output), "a", MODEL, TILING).score_map("a-low"))
    for kept in (0, 3, 200):
        damaged.write_bytes(damaged.read_bytes()[:kept] if kept else b"")
        assert main(["query", str(output), "SELECT max(score) FROM tiles"]) == ExitCode.SOME_IMAGES_FAILED
        said = capsys.readouterr().err
        assert said.startswith(f"left out: {damaged} is damaged (")
        assert said.endswith("remove it and run `ssvq score` again\n")
        put_image(output, "a", "low", [1, 2, 3])


# Any tool opens it


def test_the_metadata_is_valid_geoparquet(real_data: Path) -> None:
    import jsonschema

    schema = json.loads((real_data / "schemas" / "geoparquet-1.1.0.json").read_text())
    # Its one reference is to the schema of a crs, which is left out.
    schema["properties"]["columns"]["patternProperties"][".+"]["properties"].pop("crs")
    jsonschema.validate(GEO, schema)


@pytest.mark.parametrize("of_published", [True, False])
def test_geopandas_pandas_polars_and_duckdb_open_it(output: Path, of_published: bool) -> None:
    import duckdb
    import geopandas
    import pandas
    import polars

    publish(output)
    place = published(output) if of_published else output / "tiles" / "a"
    assert len(pandas.read_parquet(place)) == 6
    frame = geopandas.read_parquet(place)
    assert frame.crs == "OGC:CRS84"
    assert frame.geometry.iloc[0].bounds == (8, 47, 8.1, 47.1)
    assert len(geopandas.read_parquet(place, bbox=(8.05, 47, 9, 48))) == 6
    assert len(geopandas.read_parquet(place, bbox=(9, 47, 10, 48))) == 0
    pattern = str(place) if of_published else str(place / "**" / "*.parquet")
    assert len(polars.read_parquet(pattern)) == 6
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{pattern}') WHERE score > 3").fetchall() == [(2,)]


def test_gdal_opens_it(output: Path) -> None:
    import pyogrio

    if "Parquet" not in pyogrio.list_drivers():
        pytest.skip("this build of GDAL has no Parquet driver")
    publish(output)
    assert pyogrio.read_info(published(output))["features"] == 6


# Ready-made queries


def answer(out: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["query", str(out), *arguments, "--format", "json"]) == ExitCode.DONE
    return json.loads(capsys.readouterr().out)


def test_worst_tiles(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answer(output, "--named", "worst-tiles", "--limit", "2", capsys=capsys)
    assert [(row["tile_id"], row["score"]) for row in rows] == [("a-high-0-1", 9.0), ("b-only-0-1", 7.0)]
    rows = answer(output, "--named", "worst-tiles", "--survey", "b", capsys=capsys)
    assert {row["survey"] for row in rows} == {"b"}


def test_by_image_with_another_threshold(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def counts(*arguments: str) -> dict[str, int]:
        rows = answer(output, "--named", "by-image", *arguments, capsys=capsys)
        return {row["image_uri"]: row["anomalous_tiles"] for row in rows}

    assert counts() == {"/a/high.png": 1, "/b/only.png": 2, "/a/low.png": 0}
    assert counts("--threshold", "3") == {"/a/high.png": 2, "/b/only.png": 2, "/a/low.png": 1}
    assert counts("--false-positive-rate", "0.125") == {"/a/high.png": 1, "/b/only.png": 1, "/a/low.png": 0}


def test_a_rate_that_no_p_value_reaches_is_said(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = {"calibration": {"normal_scores": [1.0, 2.0, 3.0]}}
    storage.put_text(model_file(str(output), MODEL), json.dumps(calibration))
    assert main(["query", str(output), "--named", "by-image", "--false-positive-rate", "0.2"]) == ExitCode.DONE
    assert "3 normal tiles, so no p-value is below 0.25: no tile is anomalous at 0.2" in capsys.readouterr().err
    assert main(["query", str(output), "--named", "by-image", "--false-positive-rate", "0.25"]) == ExitCode.DONE
    assert capsys.readouterr().err == ""


def test_failures_and_trend(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(output, "--named", "failures", capsys=capsys) == []
    rows = answer(output, "--named", "trend", capsys=capsys)
    assert {row["survey"]: (row["images"], row["tiles"]) for row in rows} == {"a": (3, 6), "b": (1, 2)}


def test_drift_warns_of_a_survey_that_is_not_as_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    put_image(tmp_path, "same", "0", [float(x) for x in rng.normal(10, 1, 400)])
    put_image(tmp_path, "other", "0", [float(x) for x in rng.normal(13, 1, 400)])
    calibration = {"calibration": {"normal_scores": sorted(float(x) for x in rng.normal(10, 1, 500))}}
    storage.put_text(model_file(str(tmp_path), MODEL), json.dumps(calibration))
    assert main(["query", str(tmp_path), "--named", "drift", "--format", "json"]) == ExitCode.DONE
    said = capsys.readouterr()
    verdicts = {row["survey"]: row["verdict"] for row in json.loads(said.out)}
    assert verdicts == {"same": "as calibrated", "other": "shifted"}
    assert "survey other does not look like" in said.err
    assert "survey same" not in said.err


def test_stability_index_is_the_sum_over_bins() -> None:
    expected, found = np.arange(1000.0), np.arange(500.0, 1500.0)
    # Deciles of the first: none of the second in five of them, a tenth in four, and the rest in the last.
    shares = [(1e-4, 0.1)] * 5 + [(0.1, 0.1)] * 4 + [(0.6, 0.1)]
    assert stability_index(expected, found) == pytest.approx(sum((p - q) * np.log(p / q) for p, q in shares), rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the SQL to run, or --named"),
        (["SELECT 1", "--named", "trend"], "give the SQL to run, or --named"),
        (["--named", "trend", "--survey", "x"], "--survey: "),
        (["--named", "trend", "--threshold", "1", "--false-positive-rate", "0.1"], "exclude each other"),
    ],
)
def test_wrong_queries_are_one_line(
    output: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", str(output), *arguments]) == ExitCode.WRONG_INPUT
    assert message in capsys.readouterr().err
