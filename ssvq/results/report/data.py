"""The numbers of a report, from the ledger and the tiles of one partition. Reads no image."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.io import storage
from ssvq.io.sql import connect
from ssvq.results.report.bins import Bins, choose_bins
from ssvq.results.report.ground_map import MapTile
from ssvq.results.report.shown import ReportImage
from ssvq.scores.choose import count
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition, run_file
from ssvq.scores.ledger_row import PASSED_OVER, ImageRow, LedgerRow
from ssvq.scores.objects import read_model, read_score_map
from ssvq.scores.partitions import is_published, partitions
from ssvq.scores.views import literal, no_pattern

TILES_ON_MAP = 3000  # tiles with the worst scores; each path on the page has some 100 bytes

FRAMES = 12  # worst anomalous tiles of an image, at most

# Two runs may have used different calibrations of a model: the latest threshold judges all.
_BY_IMAGE = """
    SELECT image_id, max(score) AS worst, min(p_value) AS p_value, count(*) AS number,
           arg_max(threshold, scored_at) AS threshold, max(scored_at) AS scored_at
    FROM scored GROUP BY image_id
"""


Over = tuple[int, list[tuple[int, int, int, int]]]
"""How many tiles of an image reach the threshold, and the windows of the worst of them."""


@dataclass(frozen=True)
class _Tiles:
    """A row of _BY_IMAGE."""

    worst: float
    p_value: float | None
    number: int
    threshold: float | None
    scored_at: datetime | None


@dataclass(frozen=True)
class SurveyCounts:
    """Counts of images and tiles. `over` and `images_over` reach the threshold. `expected`: false alarms to expect at
    the threshold, by calibration; None if that is unknown.
    """

    scored: int
    failed: int
    passed_over: int
    tiles: int
    over: int
    images_over: int
    expected: int | None


@dataclass(frozen=True)
class ReportData:
    """What the page shows, without pictures."""

    partition: Partition
    images: list[ReportImage]
    """Worst first."""
    failures: list[LedgerRow]
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
    tiles_on_map: list[MapTile] = field(repr=False)
    """The worst tiles with a position, worst first."""
    state: str | None
    """State of the partition in the ledger, as in `PartitionInfo`."""

    @property
    def summary(self) -> SurveyCounts:
        """Images and tiles, counted."""
        return SurveyCounts(
            scored=len(self.images),
            failed=len(self.failures),
            passed_over=self.passed_over,
            tiles=sum(image.scored_tiles for image in self.images),
            over=sum(image.over for image in self.images),
            images_over=sum(image.over > 0 for image in self.images),
            expected=None if self.bins is None else _expected_false_alarms(self.bins),
        )


def _expected_false_alarms(bins: Bins) -> int | None:
    """The number of tiles times the p-value of the threshold: the false alarms if all tiles were normal."""
    alarms, normal = sum(bins.normal[bins.at :]), sum(bins.normal)
    return round((1 + alarms) / (1 + normal) * sum(bins.tiles)) if normal else None


def read_data(scores: str, survey: str, model_id: str | None) -> ReportData:
    """Read the partition of a survey that was scored last. Raises InputError if there is none."""
    partition, latest, left_out = _choose(scores, survey, model_id)
    model = read_model(scores, partition.model_id)
    rows = [row for row in LedgerRow.from_table(latest) if row.status != "removed"]
    failures = sorted((row for row in rows if row.status == "failed"), key=lambda row: row.image_uri)
    scored = ImageRow.from_table(latest)
    calibration = model.get("calibration", {})
    by_worst = calibration.get("decides") == "score_worst"
    if by_worst:  # the page is by the column that decides
        calibration = calibration["worst"]
    connection, lost, state = _open_tiles(partition, latest, scored, by_worst)
    with connection:
        by_image = {
            row.pop("image_id"): _Tiles(**row) for row in connection.sql(_BY_IMAGE).to_arrow_table().to_pylist()
        }
        bins = choose_bins(connection, _threshold(by_image, calibration), calibration)
        over = _over(connection, bins)
        tiles_on_map = connection.execute(
            "SELECT image_id, score, geometry FROM scored WHERE geometry IS NOT NULL "
            f"ORDER BY score DESC, tile_id LIMIT {TILES_ON_MAP}"
        )
        placed = [MapTile(*tile) for tile in tiles_on_map.fetchall()]
    images = [_shown(row, by_image.get(row.image_id), over.get(row.image_id, (0, [])), bins) for row in scored]
    images.sort(key=lambda image: -math.inf if image.worst is None else image.worst, reverse=True)
    others = [row for row in rows if row.status == PASSED_OVER]
    left_out += _not_read(others, scored)
    runs = _read_runs(scores, rows)
    if runs and runs[0].get("summary") is None:
        left_out.append(f"what run {runs[0]['run_id']} had still to do: it was interrupted, or is running")
    return ReportData(partition, images, failures, len(others), lost, left_out, model, runs, bins, placed, state)


def _shown(row: ImageRow, tiles: _Tiles | None, over: Over, bins: Bins | None) -> ReportImage:
    return ReportImage(
        **row.to_dict(),
        scored_tiles=0 if tiles is None else tiles.number,
        worst=None if tiles is None else tiles.worst,
        p_value=None if tiles is None else tiles.p_value,
        over=over[0],
        frames=over[1],
        bin=-1 if tiles is None or bins is None else bins.index(tiles.worst),
    )


def _not_read(others: Sequence[LedgerRow], images: Sequence[ImageRow]) -> list[str]:
    """Lines about the pictures that were passed over, by reason, and about pages of TIFFs."""
    kinds = Counter(row.error_message for row in others).most_common()
    told = [f"{count(number, 'picture')} passed over ({reason})" for reason, number in kinds]
    pages = [image.pages - 1 for image in images if image.pages is not None and image.pages > 1]
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
    partition: Partition, latest: pa.Table, images: Sequence[ImageRow], by_worst: bool
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
        there = partition.versions()
        files = [partition.score_map(image.image_id) for image in images if image.image_id in there]
        missing = [image.image_uri for image in images if image.image_id not in there]
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


def _threshold(by_image: dict[str, _Tiles], calibration: dict[str, Any]) -> float | None:
    if not by_image:
        return calibration.get("threshold")
    dated = [tiles for tiles in by_image.values() if tiles.threshold is not None]
    latest = max(dated, key=lambda tiles: tiles.scored_at.timestamp() if tiles.scored_at else 0, default=None)
    return None if latest is None else latest.threshold


def _over(connection: duckdb.DuckDBPyConnection, bins: Bins | None) -> dict[str, Over]:
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


def _read_runs(scores: str, rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """Records of the runs that scored these images, latest first. An interrupted run has only its id."""
    runs = []
    for run_id in sorted({row.run_id for row in rows if row.run_id}, reverse=True):
        try:
            runs.append(json.loads(storage.read_text(run_file(scores, run_id))))
        except FileNotFoundError:
            runs.append({"run_id": run_id})
    return runs
