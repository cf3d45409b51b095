"""From scored parts to what is kept: rows of tiles, exactly one object for an image, a row of the ledger."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from ssvq import storage
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.footprint import footprints
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart
from ssvq.model.bundle import Calibration
from ssvq.scoring.layout import Partition, staging_folder
from ssvq.scoring.schema import LEDGER, SCORE_MAP, encode_parquet, to_table

OUTCOME = pa.schema(
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
"""What became of a part: the ledger row of an image that is put; the rows of one part of a larger image, as
Parquet, for whoever puts the whole; the word that the source changed while it was read; or why nothing can be put.
The seconds are what each stage took."""


@dataclass(frozen=True)
class ScoringRun:
    """What is the same for every image of a run."""

    partition: Partition
    survey_root: str
    run_id: str
    calibration: Calibration


@dataclass(frozen=True)
class ScoredImage:
    """What is known of an image, or of a part of it: its SCORE_MAP rows, or the error that left none."""

    source: SourceImage
    header: ImageHeader | None
    table: pa.Table
    error: ImageError | None
    planned_tiles: int
    seconds: float


def write_parts(batch: pa.Table, run: ScoringRun) -> pa.Table:
    """OUTCOME rows of SCORED rows: images of one part are put, parts of larger ones handed on."""
    return pa.Table.from_pylist([_timed_outcome(row, run) for row in batch.to_pylist()], OUTCOME)


def _timed_outcome(row: dict[str, Any], run: ScoringRun) -> dict[str, Any]:
    started = time.perf_counter()
    outcome = _outcome(row, run)
    before = {name: row[name] for name in ("read_seconds", "score_seconds")}
    return {**outcome, **before, "write_seconds": time.perf_counter() - started}


def _outcome(row: dict[str, Any], run: ScoringRun) -> dict[str, Any]:
    part = ImagePart.from_json(row["part"])
    error = ImageError(row["error_stage"], row["error_message"]) if row["error_stage"] else None
    outcome: dict[str, Any] = {"part": row["part"], "tiles": len(part.block)}
    table = to_table([] if error else tile_rows(row, part, run), SCORE_MAP)
    seconds = row["read_seconds"] + (row["score_seconds"] or 0.0)  # nothing was scored of what failed
    scored = ScoredImage(part.source, part.header, table, error, len(part.block), seconds)
    if part.count > 1:
        return {**outcome, "ledger": ledger_row(run, scored), "table": encode_parquet(table)}
    try:
        known_row = put_image(run, scored)
    except storage.StorageError as error:  # told and not raised: Ray Data would wrap it in its own words
        return {**outcome, "storage_error": str(error)}
    return {**outcome, "changed": known_row is None, "ledger": known_row}


def join_parts(outcomes: Sequence[dict[str, Any]], run: ScoringRun) -> dict[str, Any] | None:
    """Put an image from the outcomes of all its parts. Returns as `put_image`."""
    parts = [ImagePart.from_json(outcome["part"]) for outcome in outcomes]
    order = sorted(range(len(parts)), key=lambda i: parts[i].index)
    errors = [outcomes[i]["ledger"] for i in order if outcomes[i]["ledger"]["error_stage"]]
    error = ImageError(errors[0]["error_stage"], errors[0]["error_message"]) if errors else None
    tables = [pq.read_table(pa.BufferReader(outcomes[i]["table"])).cast(SCORE_MAP) for i in order]
    table = SCORE_MAP.empty_table() if error else pa.concat_tables(tables)
    seconds = sum(outcome["ledger"]["seconds"] for outcome in outcomes)
    planned = sum(len(part.block) for part in parts)
    return put_image(run, ScoredImage(parts[0].source, parts[0].header, table, error, planned, seconds))


def put_image(run: ScoringRun, scored: ScoredImage) -> dict[str, Any] | None:
    """Put the object of an image, without rows when it failed so that no stale score survives.

    The source is looked at once more just before. Returns the image's ledger row, or None, with nothing put,
    when the source is no longer what was read.
    """
    source = scored.source
    try:
        if storage.stat(source.uri).version != source.fingerprint:
            return None
    except FileNotFoundError:
        removed = ImageError("read", "was removed while it was being scored")
        scored = replace(scored, error=removed, table=scored.table.slice(0, 0))
    address = run.partition.score_map(source.image_id)
    info = storage.put(address, encode_parquet(scored.table), staging=staging_folder(run.partition.out))
    return {**ledger_row(run, scored), "object_version": info.version, "object_bytes": info.size}


def ledger_row(run: ScoringRun, scored: ScoredImage) -> dict[str, Any]:
    """The ledger's row of an image; docs/schema.md says what its columns mean."""
    error, table = scored.error, scored.table
    found = asdict(scored.header) if scored.header else {}
    return {
        **_identity(run, scored.source),
        "survey_root": run.survey_root,
        "recorded_at": datetime.now(UTC),
        "status": "failed" if error else "scored",
        "tiles": len(table),
        "skipped_tiles": 0 if error else scored.planned_tiles - len(table),
        "anomalous_tiles": sum(table["is_anomalous"].to_pylist()),
        "error_stage": error.stage if error else None,
        "error_message": error.message if error else None,
        "seconds": scored.seconds,
        "bytes": scored.source.size,
        "image_width": found.pop("width", None),
        "image_height": found.pop("height", None),
        **{name: value for name, value in found.items() if name in LEDGER.names},
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


def tile_rows(row: dict[str, Any], part: ImagePart, run: ScoringRun) -> list[dict[str, Any]]:
    """SCORE_MAP rows of a SCORED row."""
    grid = part.grid
    block = list(grid.tiles(part.block))
    tiles = [block[position] for position in row["kept"]]
    scores = np.array(row["score"], np.float32)
    p_values = run.calibration.p_values(scores)
    threshold = run.calibration.threshold
    source = part.source
    image = {
        **_identity(run, source),
        "scored_at": datetime.now(UTC),
        "threshold": threshold,
        "precision": row["precision"],
    }
    return [
        {
            **image,
            **asdict(tile),
            "tile_id": f"{source.image_id}-{tile.row}-{tile.col}",
            "valid_fraction": row["valid_fraction"][i],
            "score": scores[i],
            "score_max": row["score_max"][i],
            "p_value": p_values[i],
            "is_anomalous": bool(scores[i] >= threshold),
            "score_map": row["score_map"][i] if row["score_map"] is not None else None,
            **_place(outline),
        }
        for i, (tile, outline) in enumerate(zip(tiles, footprints(part.header, tiles), strict=True))
    ]


def _place(outline: shapely.Geometry | None) -> dict[str, Any]:
    if outline is None:
        return {"geometry": None, "bbox": None}
    bounds = dict(zip(("xmin", "ymin", "xmax", "ymax"), outline.bounds, strict=True))
    return {"geometry": shapely.to_wkb(outline), "bbox": bounds}
