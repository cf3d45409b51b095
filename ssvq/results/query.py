"""`ssvq query`: SQL over the score maps with DuckDB, on local disk or S3."""

import io
import re
import sys
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from ssvq import storage
from ssvq.config import QueryConfig
from ssvq.errors import ExitCode, InputError
from ssvq.results.named import calibration_scores, named_query
from ssvq.results.partitions import is_published, partitions
from ssvq.scoring.layout import images_folder
from ssvq.scoring.schema import LEDGER, SCORE_MAP

ROWS_SHOWN = 1000
MAP_AS_READ = pa.list_(pa.list_(pa.float32()))


def query(config: QueryConfig) -> ExitCode:
    """Print or write the answer. Raises InputError for a folder without score maps, and for wrong SQL."""
    if config.format == "parquet" and config.out is None and sys.stdout.isatty():
        raise InputError("--format parquet is binary: give --out FILE, or redirect the output")
    with connect(config.scores) as connection:
        narrow(connection, config)
        answer = named_query(connection, config) if config.named else ask(connection, config.sql)
    try:
        if config.out is None:
            _write(answer, config.format, sys.stdout.buffer)
        else:
            with config.out.open("wb") as file:
                _write(answer, config.format, file)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"--out {config.out} cannot be written: {error.strerror}") from None
    return ExitCode.DONE


def run_sql(scores: str, sql: str) -> pa.Table:
    """The answer of some SQL over the views `tiles` and `images` of an output.

    Raises InputError for a folder without score maps, and for wrong SQL.
    """
    with connect(scores) as connection:
        return ask(connection, sql)


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer of some SQL. Raises InputError for wrong SQL."""
    try:
        answer = connection.sql(sql)
        return pa.table({}) if answer is None else answer.to_arrow_table()  # None: not a SELECT
    except duckdb.Error as error:
        raise _explained(error, "SQL: ") from None


def _explained(error: duckdb.Error, what: str) -> InputError:
    """An error of DuckDB in one line, with what to do about a damaged object, which it names."""
    text = " ".join(str(error).split())
    damaged = any(word in text for word in ("magic bytes", "too small to be a Parquet file", "footer"))
    return InputError(f"{'a score map is damaged; remove it and score again: ' if damaged else what}{text}")


def narrow(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> None:
    """Narrow the views to the surveys and the model that are asked for, and judge tiles by another threshold.

    Raises InputError for a survey or model that is not there.
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
        judged = f"* REPLACE (score >= {config.threshold} AS is_anomalous, {config.threshold}::DOUBLE AS threshold)"
    elif config.false_positive_rate is not None:
        judged = f"* REPLACE (p_value <= {config.false_positive_rate} AS is_anomalous, NULL::DOUBLE AS threshold)"
    for view, columns in (("tiles", judged), ("images", "*")):
        connection.execute(f"ALTER VIEW {view} RENAME TO all_{view}")
        connection.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM all_{view} {condition}")
    if config.false_positive_rate is not None:
        _warn_of_few_tiles(connection, config)


def _warn_of_few_tiles(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> None:
    """A p-value is at least 1 / (n + 1): with few calibration tiles no tile can be under a small rate."""
    for (model_id,) in connection.execute("SELECT DISTINCT model_id FROM images").fetchall():
        normal = calibration_scores(config.scores, model_id)
        if normal is not None and 1 / (len(normal) + 1) > float(config.false_positive_rate or 0):
            print(
                f"warning: model {model_id} was calibrated on {len(normal)} normal tiles, so that no p-value is under "
                f"{1 / (len(normal) + 1):.3g}: no tile is anomalous at {config.false_positive_rate:g}",
                file=sys.stderr,
            )


def connect(scores: str) -> duckdb.DuckDBPyConnection:
    """DuckDB with the views. Raises InputError for a folder without score maps."""
    segments = [info.path for info in storage.list_files(images_folder(scores)) if info.path.endswith(".parquet")]
    if not segments:
        raise InputError(f"{scores} holds no score maps; give the folder that `ssvq score --out` wrote")
    connection = duckdb.connect()
    if storage.is_remote(scores):
        connection.register_filesystem(storage.filesystem(scores)[0])
    ledger = literal(storage.join(images_folder(no_pattern(scores)), "*.parquet"))
    connection.execute(
        f"""
        CREATE VIEW images AS SELECT {", ".join(LEDGER.names)} FROM read_parquet({ledger}, union_by_name = true)
        QUALIFY row_number() OVER (
            PARTITION BY survey, model_id, tiling_id, image_id ORDER BY recorded_at DESC, run_id DESC
        ) = 1
        """
    )
    files = _tile_files(connection, scores)
    if files:
        source = f"read_parquet([{', '.join(literal(file) for file in files)}])"
    else:
        # DuckDB reads half floats from Parquet, as floats, but not from Arrow.
        as_read = pa.schema([f.with_type(MAP_AS_READ) if f.name == "score_map" else f for f in SCORE_MAP])
        connection.register("no_tiles", as_read.empty_table())
        source = "no_tiles"
    try:
        connection.execute(f"CREATE VIEW tiles AS SELECT * FROM {source}")
    except duckdb.Error as error:
        raise _explained(error, f"score maps of {scores} cannot be read: ") from None
    return connection


def _tile_files(connection: duckdb.DuckDBPyConnection, scores: str) -> list[str]:
    """What the score maps are read from, as patterns: the published file of each partition where it holds what the
    ledger says, else the objects of its images.
    """
    files = []
    for info in partitions(connection, scores):
        if is_published(info):
            files.append(no_pattern(info.partition.published))
        elif next(storage.list_files(info.partition.tiles), None) is not None:
            files.append(storage.join(no_pattern(info.partition.tiles), "*.parquet"))
    return files


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def no_pattern(location: str) -> str:
    """A location as DuckDB's globs take it literally."""
    return re.sub(r"([*?\[])", r"[\1]", location)


def _write(answer: pa.Table, form: str, file: Any) -> None:
    if form == "csv":
        pyarrow.csv.write_csv(_plain(answer), file)
    elif form == "json":
        connection = duckdb.connect()
        connection.register("answer", answer)
        rows = connection.execute("SELECT to_json(answer)::VARCHAR FROM answer").fetchall()
        file.write(("[" + ",\n ".join(row[0] for row in rows) + "]\n").encode())
    elif form == "parquet":
        pq.write_table(answer, file)
    else:
        file.write(_render(answer).encode())
    file.flush()


def _plain(answer: pa.Table) -> pa.Table:
    """The table with nested and binary columns as text, which CSV has no type for."""
    connection = duckdb.connect()
    connection.register("answer", answer)
    nested = [f.name for f in answer.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)]
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in nested]
    columns = ", ".join(f"{name}::VARCHAR AS {name}" for name in quoted)
    replaced = f"REPLACE ({columns})" if nested else ""
    return connection.sql(f"SELECT * {replaced} FROM answer").to_arrow_table()


def _render(answer: pa.Table) -> str:
    """The table for a person; wide values are not cut, since they are often paths."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for field in answer.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if number else "left", no_wrap=True)
    for row in answer.slice(0, ROWS_SHOWN).to_pylist():
        table.add_row(*[_cell(value) for value in row.values()])
    buffer = io.StringIO()
    console = Console(file=buffer, width=10_000, markup=False, highlight=False, emoji=False)
    console.print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    if len(answer) > ROWS_SHOWN:
        lines.append(f"... {len(answer) - ROWS_SHOWN} more rows; --format csv gives all")
    else:
        lines.append(f"{len(answer)} row{'' if len(answer) == 1 else 's'}")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
