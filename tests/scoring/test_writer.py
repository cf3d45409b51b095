"""What is kept of a scored image: one object and one row of the ledger, whatever became of it."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import ImagePart, inspect, split_image
from ssvq.io import storage
from ssvq.model.calibration import calibrate_columns
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scores.ledger_row import to_table as ledger_table
from ssvq.scores.schema import LEDGER, SCORE_MAP
from ssvq.scoring.writer import ScoringRun, join_parts
from tests.support.images import write_image
from tests.support.rows import to_table
from tests.support.scored import outcomes_of, tile_rows

TILING = Tiling(tile_size=16, stride=16)
THRESHOLD = 3.0
PER_RUN = ("scored_at",)


@pytest.fixture
def run(tmp_path: Path) -> ScoringRun:
    scores = np.repeat(np.linspace(0, 4, 9)[:, None], 2, axis=1)
    calibration = calibrate_columns(scores, np.zeros(9, bool), "score").model_copy(update={"threshold": THRESHOLD})
    partition = Partition(str(tmp_path / "scores"), "survey", "model", TILING.tiling_id)
    return ScoringRun(partition, str(tmp_path / "survey"), "run-1", calibration)


def parts_of(
    run: ScoringRun, width: int = 56, height: int = 40, suffix: str = ".png", tiles: int = 128, **profile: Any
) -> list[ImagePart]:
    """The parts of a real image, of at most so many tiles each: a grid of 3 x 4 tiles by default, the last of each axis
    shifted inward.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    write_image(Path(run.survey_root, f"a{suffix}"), pixels, **profile)
    (source,) = list_images(run.survey_root, "--survey")
    return split_image(source, inspect(source), TILING, part_pixels=tiles * TILING.tile_size**2)


def scored_row(part: ImagePart, kept: list[int] | None = None, **changes: Any) -> dict[str, Any]:
    """A SCORED row, with scores that tell the tile: tile k of the grid has the score k."""
    kept = list(range(len(part.block))) if kept is None else kept
    tiles = list(part.grid.tiles(part.block))
    scores = [float(tiles[position].row * len(part.grid.xs) + tiles[position].col) for position in kept]
    return {
        "part": part.to_json(),
        "read_seconds": 0.2,
        "score_seconds": 0.3,
        "kept": kept,
        "valid_fraction": [0.75] * len(kept),
        "score": scores,
        "score_max": [score + 1 for score in scores],
        "score_map": [np.full((4, 4), score, np.float16).tolist() for score in scores],
        "precision": "fp32",
    } | changes


def failed_row(part: ImagePart) -> dict[str, Any]:
    return {"part": part.to_json(), "error_stage": "read", "error_message": "is torn", "read_seconds": 0.1}


def objects(run: ScoringRun) -> list[str]:
    return [info.path for info in storage.list_files(run.partition.tiles)]


def object_of(run: ScoringRun, part: ImagePart) -> pa.Table:
    """The one object there is, which must be this image's."""
    assert objects(run) == [f"{part.source.image_id}.parquet"]
    return pq.read_table(io.BytesIO(storage.read_bytes(run.partition.score_map(part.source.image_id))))


def lasting(table: pa.Table) -> list[dict[str, Any]]:
    """Rows less what tells one run from another."""
    return table.drop_columns(list(PER_RUN)).to_pylist()


# An image that was scored


def test_an_image_has_one_object_of_the_one_schema(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    (outcome,) = outcomes_of(run, scored_row(part))
    table = object_of(run, part)
    assert table.schema.equals(SCORE_MAP, check_metadata=False)
    assert len(table) == outcome.tiles == 12
    assert (outcome.ledger is None, outcome.table) == (False, None)
    # A row says all of itself: folders of objects are opened as one table.
    row = table.to_pylist()[7]
    source = part.source
    assert {name: row[name] for name in ("survey", "image_uri", "image_id", "fingerprint")} == {
        "survey": "survey",
        "image_uri": source.uri,
        "image_id": source.image_id,
        "fingerprint": source.fingerprint,
    }
    assert (row["model_id"], row["tiling_id"], row["run_id"]) == ("model", "16-16-shift", "run-1")
    assert row["tile_id"] == f"{source.image_id}-1-3"
    assert [row[name] for name in ("row", "col", "x", "y", "width", "height")] == [1, 3, 40, 16, 16, 16]
    assert (row["score"], row["score_max"], row["valid_fraction"], row["precision"]) == (7.0, 8.0, 0.75, "fp32")
    assert row["score_map"] == [[7.0] * 4] * 4
    assert (row["geometry"], row["bbox"]) == (None, None)  # a photograph
    assert len(set(table["tile_id"].to_pylist())) == 12


def test_calibration_is_applied_to_each_tile(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part))
    for row in object_of(run, part).to_pylist():
        assert row["threshold"] == THRESHOLD
        assert row["is_anomalous"] == (row["score"] >= THRESHOLD)  # at the threshold too
        assert row["p_value"] == (1 + sum(n >= row["score"] for n in np.linspace(0, 4, 9))) / 10


def test_the_ledger_speaks_of_the_object(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    (outcome,) = outcomes_of(run, scored_row(part, kept=[0, 2, 5, 11]))
    row = outcome.ledger
    assert row.to_dict().keys() == set(LEDGER.names)
    assert (row.status, row.error_stage, row.error_message) == ("scored", None, None)
    assert (row.tiles, row.skipped_tiles, row.anomalous_tiles) == (4, 8, 2)
    assert row.fingerprint == part.source.fingerprint
    assert row.object_version == storage.stat(run.partition.score_map(part.source.image_id)).version
    assert (row.image_width, row.image_height, row.bands, row.driver) == (56, 40, 3, "PNG")
    assert (row.survey_root, row.bytes, row.seconds) == (run.survey_root, part.source.size, 0.5)


def test_kept_tiles_keep_their_places(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part, kept=[1, 6]))
    rows = object_of(run, part).to_pylist()
    assert [(row["row"], row["col"], row["score"]) for row in rows] == [(0, 1, 1.0), (1, 2, 6.0)]


def test_an_image_without_a_valid_tile_has_an_object_without_rows(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    (outcome,) = outcomes_of(run, scored_row(part, kept=[]))
    table = object_of(run, part)
    assert len(table) == 0
    assert table.schema.equals(SCORE_MAP)
    assert (outcome.ledger.status, outcome.ledger.skipped_tiles) == ("scored", 12)


def test_a_method_without_cells_has_null_maps(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part, score_map=None))
    assert object_of(run, part)["score_map"].null_count == 12


def test_tiles_of_a_georeferenced_image_have_a_place(run: ScoringRun) -> None:
    (part,) = parts_of(run, suffix=".tif", crs="EPSG:4326", transform=from_origin(7, 47, 0.01, 0.01))
    (row, *_) = tile_rows(scored_row(part), run)
    outline = shapely.from_wkb(row["geometry"])
    assert outline.symmetric_difference(shapely.box(7, 46.84, 7.16, 47)).area < 1e-9
    assert row["bbox"] == pytest.approx({"xmin": 7, "ymin": 46.84, "xmax": 7.16, "ymax": 47})
    to_table([row], SCORE_MAP)


def test_writing_again_puts_the_same_rows_in_the_same_object(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part))
    first = object_of(run, part)
    outcomes_of(run, scored_row(part))
    assert lasting(object_of(run, part)) == lasting(first)
    assert not list(Path(run.partition.out, "staging").iterdir())


# An image that failed


def test_a_failed_image_keeps_no_stale_score(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part))
    (outcome,) = outcomes_of(run, failed_row(part))
    assert len(object_of(run, part)) == 0
    row = outcome.ledger
    assert (row.status, row.error_stage, row.error_message) == ("failed", "read", "is torn")
    assert (row.tiles, row.skipped_tiles, row.anomalous_tiles) == (0, 0, 0)


def test_one_failed_image_leaves_the_others_alone(run: ScoringRun, tmp_path: Path) -> None:
    for name in ("b", "c"):
        write_image(Path(run.survey_root, f"{name}.png"), np.zeros((16, 16, 3), np.uint8))
    b, c = (split_image(source, inspect(source), TILING)[0] for source in list_images(run.survey_root, "--survey"))
    found = outcomes_of(run, failed_row(b), scored_row(c))
    assert [outcome.ledger.status for outcome in found] == ["failed", "scored"]
    assert sorted(objects(run)) == sorted(f"{part.source.image_id}.parquet" for part in (b, c))


# A source that is no longer what was read


def test_nothing_is_put_for_a_source_that_changed(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    os.utime(part.source.uri, ns=(1, 1))
    (outcome,) = outcomes_of(run, scored_row(part))
    assert outcome.ledger is None
    assert objects(run) == []


def test_an_older_object_stays_until_the_changed_source_is_scored(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part))
    before = object_of(run, part)
    os.utime(part.source.uri, ns=(1, 1))
    outcomes_of(run, scored_row(part, kept=[0]))
    assert object_of(run, part) == before


def test_a_source_that_was_removed_has_failed(run: ScoringRun) -> None:
    (part,) = parts_of(run)
    outcomes_of(run, scored_row(part))
    Path(part.source.uri).unlink()
    (outcome,) = outcomes_of(run, scored_row(part))
    assert len(object_of(run, part)) == 0
    row = outcome.ledger
    assert (row.status, row.error_stage) == ("failed", "read")
    assert "removed" in row.error_message
    assert (row.tiles, row.anomalous_tiles) == (0, 0)


# An image of many parts


@pytest.fixture
def parts(run: ScoringRun) -> list[ImagePart]:
    """The image in three parts, of a row of 4 tiles each."""
    found = parts_of(run, tiles=4)
    assert [(part.index, part.count, len(part.block)) for part in found] == [(i, 3, 4) for i in range(3)]
    return found


def test_a_part_is_handed_on_and_not_put(run: ScoringRun, parts: list[ImagePart]) -> None:
    found = outcomes_of(run, *(scored_row(part) for part in parts))
    assert objects(run) == []
    for outcome, part in zip(found, parts, strict=True):
        assert outcome.part == part
        table = pq.read_table(io.BytesIO(outcome.table))
        assert table["row"].to_pylist() == [part.index] * 4


def whole(run: ScoringRun, parts: list[ImagePart]) -> list[dict[str, Any]]:
    """The rows of the same image taken in one part."""
    (one,) = split_image(parts[0].source, parts[0].header, TILING)
    return lasting(to_table(tile_rows(scored_row(one), run), SCORE_MAP))


@given(st.permutations(range(3)))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_in_any_order_are_the_rows_of_the_whole(
    run: ScoringRun, parts: list[ImagePart], order: list[int]
) -> None:
    found = outcomes_of(run, *(scored_row(parts[i]) for i in order))
    ledger = join_parts(found, run)
    assert lasting(object_of(run, parts[0])) == whole(run, parts)
    assert ledger is not None
    assert (ledger.tiles, ledger.skipped_tiles, ledger.anomalous_tiles) == (12, 0, 9)
    assert ledger.seconds == pytest.approx(1.5)
    assert ledger.object_version == storage.stat(run.partition.score_map(parts[0].source.image_id)).version
    assert LedgerRow.from_table(ledger_table([ledger])) == [ledger]


def test_skipped_tiles_are_counted_over_the_parts(run: ScoringRun, parts: list[ImagePart]) -> None:
    rows = [scored_row(parts[0], kept=[3]), scored_row(parts[1], kept=[]), scored_row(parts[2])]
    ledger = join_parts(outcomes_of(run, *rows), run)
    assert ledger is not None
    assert (ledger.tiles, ledger.skipped_tiles) == (5, 7)
    assert object_of(run, parts[0])["score"].to_pylist() == [3, 8, 9, 10, 11]


def test_an_image_of_which_a_part_failed_has_failed_whole(run: ScoringRun, parts: list[ImagePart]) -> None:
    rows = [scored_row(parts[0]), failed_row(parts[1]), scored_row(parts[2])]
    ledger = join_parts(outcomes_of(run, *rows), run)
    assert ledger is not None
    assert (ledger.status, ledger.error_message, ledger.tiles) == ("failed", "is torn", 0)
    assert len(object_of(run, parts[0])) == 0


def test_parts_of_a_source_that_changed_are_not_put(run: ScoringRun, parts: list[ImagePart]) -> None:
    found = outcomes_of(run, *(scored_row(part) for part in parts))
    os.utime(parts[0].source.uri, ns=(1, 1))
    assert join_parts(found, run) is None
    assert objects(run) == []


def test_parts_of_a_source_that_was_removed_have_failed(run: ScoringRun, parts: list[ImagePart]) -> None:
    found = outcomes_of(run, *(scored_row(part) for part in parts))
    Path(parts[0].source.uri).unlink()
    ledger = join_parts(found, run)
    assert ledger is not None
    assert (ledger.status, ledger.tiles) == ("failed", 0)
    assert len(object_of(run, parts[0])) == 0
