"""The numbers of a report, from the ledger and the tiles of one partition. Reads no image."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.io import storage
from ssvq.io.sql import connect
from ssvq.results.report.bins import Bins, choose_bins
from ssvq.scores.choose import count
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition, run_file
from ssvq.scores.ledger import PASSED_OVER
from ssvq.scores.objects import read_model, read_score_map
from ssvq.scores.partitions import is_published, partitions
from ssvq.scores.views import literal, no_pattern

TILES_ON_MAP = 3000  # tiles with the worst scores; each path on the page has some 100 bytes

FRAMES = 12  # worst anomalous tiles of an image, at most

# Two runs may have used different calibrations of a model: the latest threshold judges all.
_BY_IMAGE = """
    SELECT image_id, max(score) AS worst, min(p_value) AS p_value, count(*) AS tiles,
           arg_max(threshold, scored_at) AS threshold, max(scored_at) AS scored_at
    FROM scored GROUP BY image_id
"""


@dataclass(frozen=True)
class ReportData:
    """What the page shows, without pictures."""

    partition: Partition
    images: list[dict[str, Any]]
    """Ledger rows of the scored images with `worst`, `p_value`, `scored_tiles`, `over`, `bin`, `frames`; worst first.
    """
    failures: list[dict[str, Any]]
    passed_over: int
    """Pictures of the survey that are not read."""
    lost: list[str]
    """Score maps that could not be read, in words."""
    left_out: list[str]
    """Other scores of the survey that the page leaves out, in words."""
    model: dict[str, Any]
    runs: list[dict[str, Any]]
    bins: Bins | None
    """None without tiles or without a threshold."""
    tiles_on_map: list[dict[str, Any]] = field(repr=False)
    """`image_id`, `score` and `geometry` (WKB) of the worst tiles with a position, worst first."""
    state: str | None
    """State of the partition in the ledger, as in `PartitionInfo`."""

    @property
    def summary(self) -> dict[str, Any]:
        """Counts of images and tiles. `over` and `images_over` reach the threshold. `expected`: expected false alarms
        at the threshold, by calibration; None if that is unknown.
        """
        return {
            "scored": len(self.images),
            "failed": len(self.failures),
            "passed_over": self.passed_over,
            "tiles": sum(image["scored_tiles"] for image in self.images),
            "over": sum(image["over"] for image in self.images),
            "images_over": sum(image["over"] > 0 for image in self.images),
            "expected": None if self.bins is None else _expected_false_alarms(self.bins),
        }


def _expected_false_alarms(bins: Bins) -> int | None:
    """The number of tiles times the p-value of the threshold: the false alarms if all tiles were normal."""
    alarms, normal = sum(bins.normal[bins.at :]), sum(bins.normal)
    return round((1 + alarms) / (1 + normal) * sum(bins.tiles)) if normal else None


def read_data(scores: str, survey: str, model_id: str | None) -> ReportData:
    """Read the partition of a survey that was scored last. Raises InputError if there is none."""
    partition, latest, left_out = _choose(scores, survey, model_id)
    model = read_model(scores, partition.model_id)
    rows = [row for row in latest.to_pylist() if row["status"] != "removed"]
    failures = sorted((row for row in rows if row["status"] == "failed"), key=lambda row: row["image_uri"])
    images = [row for row in rows if row["status"] == "scored"]
    calibration = model.get("calibration", {})
    by_worst = calibration.get("decides") == "score_worst"
    if by_worst:  # the page is by the column that decides
        calibration = calibration["worst"]
    connection, lost, state = _open_tiles(partition, latest, images, by_worst)
    with connection:
        by_image = {row["image_id"]: row for row in connection.sql(_BY_IMAGE).to_arrow_table().to_pylist()}
        bins = choose_bins(connection, _threshold(by_image, calibration), calibration)
        over = _over(connection, bins)
        tiles_on_map = connection.sql(
            "SELECT image_id, score, geometry FROM scored WHERE geometry IS NOT NULL "
            f"ORDER BY score DESC, tile_id LIMIT {TILES_ON_MAP}"
        )
        placed = tiles_on_map.to_arrow_table().to_pylist()
    for image in images:
        found = by_image.get(image["image_id"], {})
        image["worst"], image["p_value"] = found.get("worst"), found.get("p_value")
        image["scored_tiles"] = found.get("tiles", 0)
        image["over"], image["frames"] = over.get(image["image_id"], (0, []))
        image["bin"] = bins.index(image["worst"]) if bins and image["worst"] is not None else -1
    others = [row for row in rows if row["status"] == PASSED_OVER]
    left_out += _not_read(others, images)
    runs = _read_runs(scores, rows)
    if runs and runs[0].get("summary") is None:
        left_out.append(f"what run {runs[0]['run_id']} had still to do: it was interrupted, or is running")
    images.sort(key=lambda image: -math.inf if image["worst"] is None else image["worst"], reverse=True)
    return ReportData(partition, images, failures, len(others), lost, left_out, model, runs, bins, placed, state)


def _not_read(others: list[dict[str, Any]], images: list[dict[str, Any]]) -> list[str]:
    """Lines about the pictures that were passed over, by reason, and about pages of TIFFs."""
    kinds = Counter(row["error_message"] for row in others).most_common()
    told = [f"{count(number, 'picture')} passed over ({reason})" for reason, number in kinds]
    pages = [row["pages"] - 1 for row in images if (row["pages"] or 1) > 1]
    if pages:
        told.append(f"{count(sum(pages), 'further page')} of {count(len(pages), 'TIFF')}: only a first page is scored")
    return told


def _choose(scores: str, survey: str, model_id: str | None) -> tuple[Partition, pa.Table, list[str]]:
    """The partition of a survey that scored last, its latest rows, and lines about the others."""
    with Scores(scores) as known:
        known.check_known(survey, model_id)
        (partition,) = known.latest(survey, model_id)
        others = sorted({(one.model_id, one.tiling_id) for one in known.others([partition], model_id)})
        left_out = [f"scores of model {model}, tiling {tiling}" for model, tiling in others]
        return partition, known.rows(partition), left_out


def _open_tiles(
    partition: Partition, latest: pa.Table, images: Sequence[dict[str, Any]], by_worst: bool
) -> tuple[duckdb.DuckDBPyConnection, list[str], str | None]:
    """A connection with the table `scored`, which has the finite scores of the partition's tiles; lines about missing
    or damaged objects; and the state of the partition.
    """
    connection = connect(partition.out)
    connection.register("images", latest)
    (info,) = partitions(connection, partition.out)
    lost: list[str] = []
    if is_published(info):
        files = [partition.published]
    else:
        there = {found.path for found in storage.list_files(partition.tiles)}
        wanted = {f"{image['image_id']}.parquet": image for image in images}
        files = [storage.join(partition.tiles, name) for name in wanted if name in there]
        missing = [image["image_uri"] for name, image in wanted.items() if name not in there]
        lost = [f"the score map of {uri} is missing: run `ssvq score` again" for uri in missing]
    try:
        _load(connection, files, by_worst)
    except duckdb.Error as error:
        damaged = {file: problem for file in files if (problem := _damage(file)) is not None}
        if not damaged:
            raise InputError(f"score maps of {partition.out} cannot be read: {reason_of(error)}") from None
        lost += damaged.values()
        _load(connection, [file for file in files if file not in damaged], by_worst)
    return connection, lost, info.state


def _load(connection: duckdb.DuckDBPyConnection, files: Sequence[str], by_worst: bool) -> None:
    """Load only the columns that the page needs: score maps are most of the bytes, and are not read. `by_worst`: take
    the scores of the worst cells.
    """
    columns = "image_id, tile_id, score, p_value, threshold, scored_at, x, y, width, height, geometry"
    if files:
        named = ", ".join(literal(no_pattern(file)) for file in files)
        source = f"read_parquet([{named}])"
    else:
        empty = ("''", "''", "0::FLOAT", "0::DOUBLE", "0::DOUBLE", "now()", "0", "0", "0", "0", "''::BLOB")
        fields = ", ".join(f"{value} AS {name}" for value, name in zip(empty, columns.split(", "), strict=True))
        source = f"(SELECT {fields} LIMIT 0)"
    read = columns
    if by_worst and files:
        names = {"score": "score_worst", "p_value": "p_value_worst", "threshold": "threshold_worst"}
        read = ", ".join(f"{names[name]} AS {name}" if name in names else name for name in columns.split(", "))
    finite = f"SELECT * FROM (SELECT {read} FROM {source}) WHERE isfinite(score)"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE scored AS {finite}")


def _damage(file: str) -> str | None:
    """Why an object cannot be read, or None if it can."""
    try:
        read_score_map(file, ["image_id", "score", "geometry"])
    except InputError as error:
        return str(error)
    return None


def _threshold(by_image: dict[str, dict[str, Any]], calibration: dict[str, Any]) -> float | None:
    if not by_image:
        return calibration.get("threshold")
    dated = [row for row in by_image.values() if row["threshold"] is not None]
    latest = max(dated, key=lambda row: row["scored_at"].timestamp() if row["scored_at"] else 0, default=None)
    return None if latest is None else float(latest["threshold"])


def _over(
    connection: duckdb.DuckDBPyConnection, bins: Bins | None
) -> dict[str, tuple[int, list[tuple[int, int, int, int]]]]:
    """By image, how many tiles reach the threshold, and where the worst of them are: x, y, width and height."""
    if bins is None:
        return {}
    rows = connection.execute(
        """
        SELECT image_id, count(*), max_by({x: x, y: y, width: width, height: height}, score, $frames)
        FROM scored WHERE score >= $threshold GROUP BY image_id
        """,
        {"threshold": bins.threshold, "frames": FRAMES},
    ).fetchall()
    return {image_id: (count, [tuple(place.values()) for place in places]) for image_id, count, places in rows}


def _read_runs(scores: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of the runs that scored these images, latest first. An interrupted run has only its id."""
    runs = []
    for run_id in sorted({row["run_id"] for row in rows if row["run_id"]}, reverse=True):
        try:
            runs.append(json.loads(storage.read_text(run_file(scores, run_id))))
        except FileNotFoundError:
            runs.append({"run_id": run_id})
    return runs
