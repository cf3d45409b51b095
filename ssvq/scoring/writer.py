"""From scored parts to the output: rows of tiles, one object for each image, one row in the ledger."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.catalog import PassedOver, SourceImage
from ssvq.imagery.footprint import footprints
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart
from ssvq.io import parquet, storage
from ssvq.model.calibration import Calibration
from ssvq.scores.layout import Partition, staging_folder
from ssvq.scores.ledger import PASSED_OVER
from ssvq.scores.schema import BBOX, LEDGER, SCORE_MAP
from ssvq.scoring.rows import ScoredPart, scored_parts

OUTCOME_STRUCT = pa.struct(
    [
        ("part", pa.string()),
        ("tiles", pa.int32()),
        ("changed", pa.bool_()),
        ("ledger", pa.struct(list(LEDGER))),
        ("table", pa.large_binary()),
        ("storage_error", pa.string()),
        ("read_seconds", pa.float64()),
        ("score_seconds", pa.float64()),
        ("write_seconds", pa.float64()),
    ]
)
WRITTEN = pa.schema([("outcomes", pa.list_(OUTCOME_STRUCT))])
"""The outcome of each part of a SCORED row. It is one of: the ledger row of an image that was written; the rows of one
part of a larger image, as Parquet; a note that the source changed during reading; or an error. The seconds are those of
each stage.
"""


@dataclass(frozen=True)
class ScoringRun:
    """What all images of a run have in common."""

    partition: Partition
    survey_root: str
    run_id: str
    calibration: Calibration
    number: int = 1
    """Number of the run within its survey."""


@dataclass(frozen=True)
class ScoredImage:
    """An image, or a part of it, with its SCORE_MAP rows or with its error."""

    source: SourceImage
    header: ImageHeader | None
    table: pa.Table
    error: ImageError | None
    planned_tiles: int
    seconds: float
    decoder: str | None = None


def write_parts(batch: pa.Table, run: ScoringRun) -> pa.Table:
    """A WRITTEN row of SCORED rows: images of one part are written, parts of larger images are passed on."""
    outcomes = [_timed_outcome(scored, run) for scored in scored_parts(batch)]
    return pa.Table.from_pylist([{"outcomes": outcomes}], WRITTEN)


def _timed_outcome(scored: ScoredPart, run: ScoringRun) -> dict[str, Any]:
    started = time.perf_counter()
    outcome = _outcome(scored, run)
    before = {"read_seconds": scored.read_seconds, "score_seconds": scored.score_seconds}
    return {**outcome, **before, "write_seconds": time.perf_counter() - started}


def _outcome(scored: ScoredPart, run: ScoringRun) -> dict[str, Any]:
    part, error = scored.part, scored.error
    outcome: dict[str, Any] = {"part": part.to_json(), "tiles": len(part.block)}
    table = SCORE_MAP.empty_table() if error else tile_table(scored, run)
    image = ScoredImage(
        part.source,
        part.header,
        table,
        error,
        len(part.block),
        scored.read_seconds + scored.score_seconds,
        scored.decoder,
    )
    if part.count > 1:
        return {**outcome, "ledger": ledger_row(run, image), "table": parquet.encode(table)}
    try:
        known_row = put_image(run, image)
    except storage.StorageError as failure:  # returned and not raised: Ray Data would wrap the error in its own words
        return {**outcome, "storage_error": str(failure)}
    return {**outcome, "changed": known_row is None, "ledger": known_row}


def join_parts(outcomes: Sequence[dict[str, Any]], run: ScoringRun) -> dict[str, Any] | None:
    """Write an image from the outcomes of all its parts. Returns as `put_image`."""
    parts = [ImagePart.from_json(outcome["part"]) for outcome in outcomes]
    order = sorted(range(len(parts)), key=lambda i: parts[i].index)
    errors = [outcomes[i]["ledger"] for i in order if outcomes[i]["ledger"]["error_stage"]]
    error = ImageError(errors[0]["error_stage"], errors[0]["error_message"]) if errors else None
    tables = [parquet.decode(outcomes[i]["table"], schema=SCORE_MAP) for i in order]
    table = SCORE_MAP.empty_table() if error else pa.concat_tables(tables)
    seconds = sum(outcome["ledger"]["seconds"] for outcome in outcomes)
    planned = sum(len(part.block) for part in parts)
    decoder = outcomes[order[0]]["ledger"]["decoder"]
    return put_image(run, ScoredImage(parts[0].source, parts[0].header, table, error, planned, seconds, decoder))


def put_image(run: ScoringRun, scored: ScoredImage) -> dict[str, Any] | None:
    """Write the object of an image; without rows if it failed, so that no old scores stay.

    The source is checked once more just before. Returns the ledger row of the image, or None, with nothing written, if
    the source has changed.
    """
    source = scored.source
    try:
        if storage.stat(source.uri).version != source.version:
            return None
    except FileNotFoundError:
        removed = ImageError("read", "was removed while it was being scored")
        scored = replace(scored, error=removed, table=scored.table.slice(0, 0))
    address = run.partition.score_map(source.image_id)
    info = parquet.put(address, scored.table, staging_folder(run.partition.out))
    return {**ledger_row(run, scored), "object_version": info.version, "object_bytes": info.size}


def ledger_row(run: ScoringRun, scored: ScoredImage) -> dict[str, Any]:
    """The ledger row of an image. docs/reference/schema.md describes its columns."""
    error, table = scored.error, scored.table
    found = asdict(scored.header) if scored.header else {}
    return {
        **_identity(run, scored.source),
        "survey_root": run.survey_root,
        "run_number": run.number,
        "recorded_at": datetime.now(UTC),
        "status": "failed" if error else "scored",
        "tiles": len(table),
        "skipped_tiles": 0 if error else scored.planned_tiles - len(table),
        "anomalous_tiles": pc.sum(table["is_anomalous"]).as_py() or 0,
        "error_stage": error.stage if error else None,
        "error_message": error.message if error else None,
        "seconds": scored.seconds,
        "bytes": scored.source.size,
        "decoder": scored.decoder,
        "image_width": found.pop("width", None),
        "image_height": found.pop("height", None),
        **{name: value for name, value in found.items() if name in LEDGER.names},
    }


def passed_over_row(run: ScoringRun, other: PassedOver) -> dict[str, Any]:
    """The ledger row of a picture that is not read."""
    uri = storage.join(run.survey_root, other.path)
    row = dict.fromkeys(LEDGER.names) | dict.fromkeys(("tiles", "skipped_tiles", "anomalous_tiles", "object_bytes"), 0)
    return {
        **row,
        **_identity(run, SourceImage(uri, other.path, other.fingerprint, other.size)),
        "survey_root": run.survey_root,
        "run_number": run.number,
        "recorded_at": datetime.now(UTC),
        "status": PASSED_OVER,
        "error_stage": "list",
        "error_message": other.reason,
        "bytes": other.size,
    }


def _identity(run: ScoringRun, source: SourceImage) -> dict[str, Any]:
    """The columns of `IDENTITY`."""
    return {
        "survey": run.partition.survey,
        "image_uri": source.uri,
        "image_id": source.image_id,
        "fingerprint": source.fingerprint,
        "model_id": run.partition.model_id,
        "tiling_id": run.partition.tiling_id,
        "run_id": run.run_id,
    }


def tile_table(scored: ScoredPart, run: ScoringRun) -> pa.Table:
    """SCORE_MAP rows of the tiles of a part, built by column."""
    part, source = scored.part, scored.part.source
    n = len(scored.kept)
    row, col, *window = part.grid.places(part.block, scored.kept)
    numbers = (pa.array(values).cast(pa.string()) for values in (row, col))
    worst = run.calibration.worst
    same = {
        **_identity(run, source),
        "scored_at": datetime.now(UTC),
        "threshold": run.calibration.threshold,
        "threshold_worst": worst.threshold if worst else None,
        "precision": scored.precision,
    }
    columns = {
        **{name: pa.repeat(pa.scalar(value, SCORE_MAP.field(name).type), n) for name, value in same.items()},
        **dict(zip(("row", "col", "x", "y", "width", "height"), map(pa.array, (row, col, *window)), strict=True)),
        "tile_id": pc.binary_join_element_wise(pa.repeat(source.image_id, n), *numbers, "-"),
        "valid_fraction": scored.valid_fraction,
        "score": scored.score,
        "score_max": scored.score_max,
        "p_value": run.calibration.p_values(scored.score),
        "score_worst": scored.score_worst if worst else pa.nulls(n, pa.float32()),
        "p_value_worst": worst.p_values(scored.score_worst) if worst else pa.nulls(n, pa.float64()),
        "is_anomalous": run.calibration.is_anomalous(scored.score, scored.score_worst),
        "score_map": _nested(scored.score_map, n),
        **_places(part.header, np.stack(window, axis=1)),
    }
    return pa.table({name: columns[name] for name in SCORE_MAP.names}, SCORE_MAP)


def _nested(maps: NDArray[np.float16] | None, n: int) -> pa.Array:
    """Maps (n, side, side) as nested lists."""
    if maps is None:
        return pa.nulls(n, SCORE_MAP.field("score_map").type)
    side = maps.shape[1]
    rows = pa.ListArray.from_arrays(pa.array(np.arange(n * side + 1, dtype=np.int32) * side), maps.ravel())
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * side), rows)


def _places(header: ImageHeader | None, windows: NDArray[np.int32]) -> dict[str, pa.Array]:
    """Footprints and bounds of tiles, from windows x, y, width, height (n, 4); null for tiles without a place."""
    outlines = np.full(len(windows), None, object) if header is None else footprints(header, windows)
    nowhere = shapely.is_missing(outlines)
    bounds = pa.StructArray.from_arrays(
        [pa.array(side) for side in shapely.bounds(outlines).T], fields=list(BBOX), mask=pa.array(nowhere)
    )
    return {"geometry": pa.array(shapely.to_wkb(outlines), pa.binary()), "bbox": bounds}
