"""`ssvq query`: SQL over the score maps with DuckDB, on local disk or S3."""

import sys
from collections.abc import Collection

import duckdb
import pyarrow as pa

from ssvq import logs
from ssvq.errors import ExitCode, InputError, reason_of
from ssvq.results.answer import write_answer
from ssvq.results.named import QUERIES, calibration_scores, named_query
from ssvq.results.settings import QueryConfig
from ssvq.scores.damage import damaged_objects
from ssvq.scores.data_set import Scores
from ssvq.scores.views import UnreadableError, literal, reading

NOT_COMPARED = "no survey is compared with an earlier one: run `ssvq findings SCORES --survey NAME --previous EARLIER`"


def query(config: QueryConfig) -> ExitCode:
    """Print or write the answer. Damaged objects are named and left out, and the exit code says so.

    Raises InputError for a folder without score maps, and for wrong SQL.
    """
    if config.format == "parquet" and config.out is None and sys.stdout.isatty():
        raise InputError("--format parquet is binary: give --out FILE, or redirect the output")
    damaged: dict[str, str] = {}
    try:
        answer = _answer(config)
    except UnreadableError:
        damaged = damaged_objects(config.scores)
        if not damaged:
            raise
        for address, reason in damaged.items():
            logs.warning(f"left out: {address} is damaged ({reason}): remove it and run `ssvq score` again")
        answer = _answer(config, damaged)
    try:
        if config.out is None:
            write_answer(answer, config.format, sys.stdout.buffer)
        else:
            with config.out.open("wb") as file:
                write_answer(answer, config.format, file)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"--out {config.out} cannot be written: {reason_of(error)}") from None
    return ExitCode.SOME_IMAGES_FAILED if damaged else ExitCode.DONE


def _answer(config: QueryConfig, damaged: Collection[str] = ()) -> pa.Table:
    with Scores(config.scores, damaged) as scores:
        scores.add_views("tiles")  # also if the SQL lists the views, as SHOW TABLES does
        with reading(f"score maps of {config.scores} cannot be read: "):
            narrow(scores.connection, config)
            scores.add_views(QUERIES.get(str(config.named), ""))
            if config.named:
                if scores.has_gone is False:
                    logs.warning(NOT_COMPARED)
                return named_query(scores.connection, config)
        answer = scores.sql(config.sql)
        if scores.has_findings is False:
            logs.warning(f"{config.scores} has no table of findings: make it by `ssvq findings`")
        if scores.has_gone is False:
            logs.warning(NOT_COMPARED)
        return answer


def narrow(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> None:
    """Narrow the views to the given surveys and model, and judge tiles by another threshold.

    Raises InputError for an unknown survey or model.
    """
    where = []
    for column, wanted in (("survey", config.survey), ("model_id", [config.model_id] if config.model_id else None)):
        if wanted is None:
            continue
        known = [name for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM images ORDER BY 1").fetchall()]
        missing = [name for name in wanted if name not in known]
        if missing:
            setting = column.replace("_", "-")
            raise InputError(f"--{setting}: {config.scores} has no {missing[0]!r}; it has {', '.join(known)}")
        where.append(f"{column} IN ({', '.join(map(literal, wanted))})")
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    judged = "*"
    if config.threshold is not None:
        threshold = f"{literal(str(config.threshold))}::DOUBLE"
        judged = f"* REPLACE (score >= {threshold} AS is_anomalous, {threshold} AS threshold)"
    elif config.false_positive_rate is not None:
        judged = f"* REPLACE (p_value <= {config.false_positive_rate} AS is_anomalous, NULL::DOUBLE AS threshold)"
    for view, columns in (("tiles", judged), ("images", "*")):
        connection.execute(f"ALTER VIEW {view} RENAME TO all_{view}")
        connection.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM all_{view} {condition}")
    if config.false_positive_rate is not None:
        _warn_of_few_tiles(connection, config)


def _warn_of_few_tiles(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> None:
    """Warn if the calibration has too few tiles: no p-value is below 1 / (n + 1), so no tile reaches a smaller rate."""
    for (model_id,) in connection.execute("SELECT DISTINCT model_id FROM images").fetchall():
        normal = calibration_scores(config.scores, model_id)
        if normal is not None and 1 / (len(normal) + 1) > float(config.false_positive_rate or 0):
            logs.warning(
                f"warning: model {model_id} was calibrated on {len(normal)} normal tiles, so no p-value is below "
                f"{1 / (len(normal) + 1):.3g}: no tile is anomalous at {config.false_positive_rate:g}"
            )
