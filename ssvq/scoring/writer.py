"""From scored parts to the output: rows of tiles, one object for each image, one row in the ledger."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
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
from ssvq.io import parquet, storage
from ssvq.model.calibration import Calibration
from ssvq.scores.layout import Partition, staging_folder
from ssvq.scores.ledger_row import PASSED_OVER, LedgerRow
from ssvq.scores.schema import BBOX, LEDGER, SCORE_MAP
from ssvq.scoring.outcome import WRITTEN, PartOutcome
from ssvq.scoring.rows import ScoredPart, scored_parts

# Columns of the ledger that have their name in the header, too.
FROM_HEADER = [field.name for field in fields(ImageHeader) if field.name in LEDGER.names]


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
    outcomes = [_timed_outcome(scored, run).to_dict() for scored in scored_parts(batch)]
    return pa.Table.from_pylist([{"outcomes": outcomes}], WRITTEN)


def _timed_outcome(scored: ScoredPart, run: ScoringRun) -> PartOutcome:
    started = time.perf_counter()
    outcome = _outcome(scored, run)
    return replace(
        outcome,
        read_seconds=scored.read_seconds,
        score_seconds=scored.score_seconds,
        write_seconds=time.perf_counter() - started,
    )


def _outcome(scored: ScoredPart, run: ScoringRun) -> PartOutcome:
    part, error = scored.part, scored.error
    tiles = len(part.block)
    table = SCORE_MAP.empty_table() if error else tile_table(scored, run)
    seconds = scored.read_seconds + scored.score_seconds
    image = ScoredImage(part.source, part.header, table, error, tiles, seconds, scored.decoder)
    if part.count > 1:
        return PartOutcome(part=part, tiles=tiles, ledger=ledger_row(run, image), table=parquet.encode(table))
    try:
        return PartOutcome(part=part, tiles=tiles, ledger=put_image(run, image))
    except storage.StorageError as failure:  # returned and not raised: Ray Data would wrap the error in its own words
        return PartOutcome(part=part, tiles=tiles, storage_error=str(failure))


def join_parts(outcomes: Sequence[PartOutcome], run: ScoringRun) -> LedgerRow | None:
    """Write an image from the outcomes of all its parts. Returns as `put_image`."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.part.index)
    rows = [outcome.ledger for outcome in outcomes if outcome.ledger is not None]
    error = next((ImageError(row.error_stage, row.error_message or "") for row in rows if row.error_stage), None)
    tables = [parquet.decode(outcome.table, schema=SCORE_MAP) for outcome in outcomes if outcome.table is not None]
    first = outcomes[0].part
    image = ScoredImage(
        first.source,
        first.header,
        SCORE_MAP.empty_table() if error else pa.concat_tables(tables),
        error,
        sum(len(outcome.part.block) for outcome in outcomes),
        sum(row.seconds or 0.0 for row in rows),
        rows[0].decoder,
    )
    return put_image(run, image)


def put_image(run: ScoringRun, scored: ScoredImage) -> LedgerRow | None:
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
    return replace(ledger_row(run, scored), object_version=info.version, object_bytes=info.size)


def ledger_row(run: ScoringRun, scored: ScoredImage) -> LedgerRow:
    """The ledger row of an image. docs/reference/schema.md describes its columns."""
    error, table, header = scored.error, scored.table, scored.header
    known = {} if header is None else {name: getattr(header, name) for name in FROM_HEADER}
    return LedgerRow(
        **_identity(run, scored.source),
        survey_root=run.survey_root,
        run_number=run.number,
        recorded_at=datetime.now(UTC),
        status="failed" if error else "scored",
        tiles=len(table),
        skipped_tiles=0 if error else scored.planned_tiles - len(table),
        anomalous_tiles=pc.sum(table["is_anomalous"]).as_py() or 0,
        error_stage=error.stage if error else None,
        error_message=error.message if error else None,
        seconds=scored.seconds,
        bytes=scored.source.size,
        decoder=scored.decoder,
        image_width=header.width if header else None,
        image_height=header.height if header else None,
        **known,
    )


def passed_over_row(run: ScoringRun, other: PassedOver) -> LedgerRow:
    """The ledger row of a picture that is not read."""
    uri = storage.join(run.survey_root, other.path)
    return LedgerRow(
        **_identity(run, SourceImage(uri, other.path, other.fingerprint, other.size)),
        survey_root=run.survey_root,
        run_number=run.number,
        recorded_at=datetime.now(UTC),
        status=PASSED_OVER,
        error_stage="list",
        error_message=other.reason,
        bytes=other.size,
    )


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
