"""`ssvq query`: SQL over the score maps with DuckDB, on local disk or S3."""

import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from ssvq import logs
from ssvq.errors import ExitCode, InputError
from ssvq.io import storage
from ssvq.results.answer import write_answer
from ssvq.results.findings.schema import FINDINGS
from ssvq.results.named import calibration_scores, named_query
from ssvq.results.settings import QueryConfig
from ssvq.scores.damage import UNREADABLE, damaged_objects, reason_of
from ssvq.scores.layout import findings_folder, images_folder
from ssvq.scores.partitions import is_published, partitions
from ssvq.scores.schema import LATEST_FIRST, LEDGER, SCORE_MAP

# The views themselves could be bound before, so that these are not for a damaged object.
WRONG_SQL = (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException)
KEY = ("survey", "model_id", "tiling_id", "image_id")
MAP_AS_READ = pa.list_(pa.list_(pa.float32()))


def query(config: QueryConfig) -> ExitCode:
    """Print or write the answer. Objects that are damaged are named and left out, and the exit code says so.

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
        raise InputError(f"--out {config.out} cannot be written: {error.strerror}") from None
    return ExitCode.SOME_IMAGES_FAILED if damaged else ExitCode.DONE


def _answer(config: QueryConfig, damaged: Collection[str] = ()) -> pa.Table:
    with connect(config.scores, damaged) as connection:
        with _reading(f"score maps of {config.scores} cannot be read: "):
            narrow(connection, config)
            if config.named:
                return named_query(connection, config)
        if "findings" in config.sql.lower():
            _create_findings(connection, config)
        return ask(connection, config.sql)


class UnreadableError(InputError):
    """Something could not be read, which may be for damaged objects."""


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn errors of reading objects into UnreadableError, in one line."""
    try:
        yield
    except UNREADABLE as error:
        raise UnreadableError(f"{what}{reason_of(error)}") from None


def run_sql(scores: str, sql: str) -> pa.Table:
    """The answer of some SQL over the views `tiles` and `images` of an output.

    Raises InputError for a folder without score maps, and for wrong SQL.
    """
    with connect(scores) as connection:
        return ask(connection, sql)


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer of some SQL. Raises InputError for wrong SQL."""
    with _reading("SQL: "):
        try:
            answer = connection.sql(sql)
            return pa.table({}) if answer is None else answer.to_arrow_table()  # None: not a SELECT
        except WRONG_SQL as error:
            raise InputError(f"SQL: {reason_of(error)}") from None


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
    """A p-value is at least 1 / (n + 1): with few calibration tiles no tile can be under a small rate."""
    for (model_id,) in connection.execute("SELECT DISTINCT model_id FROM images").fetchall():
        normal = calibration_scores(config.scores, model_id)
        if normal is not None and 1 / (len(normal) + 1) > float(config.false_positive_rate or 0):
            logs.warning(
                f"warning: model {model_id} was calibrated on {len(normal)} normal tiles, so that no p-value is under "
                f"{1 / (len(normal) + 1):.3g}: no tile is anomalous at {config.false_positive_rate:g}"
            )


def connect(scores: str, damaged: Collection[str] = ()) -> duckdb.DuckDBPyConnection:
    """DuckDB with the views, which leave out the addresses of damaged objects.

    Raises InputError for a folder without score maps, and UnreadableError where the views cannot be made.
    """
    folder = images_folder(scores)
    segments = [info.path for info in storage.list_files(folder) if info.path.endswith(".parquet")]
    if not segments:
        raise InputError(f"{scores} holds no score maps; give the folder that `ssvq score --out` wrote")
    connection = duckdb.connect()
    if storage.is_remote(scores):
        connection.register_filesystem(storage.filesystem(scores)[0])
    with _reading(f"score maps of {scores} cannot be read: "):
        _create_images(connection, scores, _without(folder, segments, damaged))
        _create_tiles(connection, *_tile_files(connection, scores, damaged))
    return connection


def _create_images(connection: duckdb.DuckDBPyConnection, scores: str, files: list[str]) -> None:
    if not files:
        raise InputError(f"every segment of the ledger of {scores} is damaged: remove them and run `ssvq score` again")
    # Without its key a row, of a table of something else, is of no image. Keys are names of folders and objects: one
    # that leads elsewhere would have other files read, or written, in their place.
    plain = " AND ".join(f"regexp_full_match({name}, '[^/]+') AND {name} NOT IN ('.', '..')" for name in KEY)
    connection.register("no_images", LEDGER.empty_table())
    connection.execute(
        f"""
        CREATE VIEW images AS SELECT {", ".join(LEDGER.names)} FROM {_read_old(files, "no_images")}
        WHERE {plain}
        QUALIFY row_number() OVER (
            PARTITION BY {", ".join(KEY)} ORDER BY {LATEST_FIRST}
        ) = 1
        """
    )


def _create_tiles(connection: duckdb.DuckDBPyConnection, files: list[str], old: list[str]) -> None:
    # DuckDB reads half floats from Parquet, as floats, but not from Arrow.
    as_read = pa.schema([f.with_type(MAP_AS_READ) if f.name == "score_map" else f for f in SCORE_MAP])
    connection.register("no_tiles", as_read.empty_table())
    sources = ([_read(files)] if files else []) + ([_read_old(old, "no_tiles")] if old else [])
    names = ", ".join(SCORE_MAP.names)
    selected = (f"SELECT {names} FROM {source}" for source in sources or ["no_tiles"])
    connection.execute(f"CREATE VIEW tiles AS {' UNION ALL '.join(selected)}")


def _create_findings(connection: duckdb.DuckDBPyConnection, config: QueryConfig) -> None:
    """The view `findings`, of the surveys and the model that are asked for, and of images that are scored and the same
    still.
    """
    folder = findings_folder(config.scores)
    files = [storage.join(folder, info.path) for info in storage.list_files(folder) if info.path.endswith(".parquet")]
    if not files:
        logs.warning(f"{config.scores} has no table of findings: make it by `ssvq findings`")
    connection.register("no_findings", FINDINGS.empty_table())
    source = _read_old([no_pattern(file) for file in files], "no_findings") if files else "no_findings"
    with _reading(f"findings of {config.scores} cannot be read; run `ssvq findings` again: "):
        connection.execute(
            f"CREATE VIEW findings AS SELECT {', '.join(FINDINGS.names)} FROM {source} "
            f"SEMI JOIN (SELECT * FROM images WHERE status = 'scored') "
            f"USING ({', '.join(KEY)}, fingerprint)"
        )


def _tile_files(
    connection: duckdb.DuckDBPyConnection, scores: str, damaged: Collection[str]
) -> tuple[list[str], list[str]]:
    """What the score maps are read from, as patterns: the published file of each partition where it holds what the
    ledger says, else the objects of its images; those of partitions with objects of an earlier version by themselves.
    """
    of_now: list[str] = []
    of_before: list[str] = []
    for info in partitions(connection, scores):
        files = of_before if info.has_old else of_now
        if info.partition.published not in damaged and is_published(info):
            files.append(no_pattern(info.partition.published))
        elif damaged:
            names = [found.path for found in storage.list_files(info.partition.tiles)]
            files.extend(_without(info.partition.tiles, names, damaged))
        elif next(storage.list_files(info.partition.tiles), None) is not None:
            files.append(storage.join(no_pattern(info.partition.tiles), "*.parquet"))
    return of_now, of_before


def _without(folder: str, names: list[str], damaged: Collection[str]) -> list[str]:
    """What to read of a folder's Parquet objects, as patterns: one for all, unless some are damaged."""
    if not damaged:
        return [storage.join(no_pattern(folder), "*.parquet")]
    addresses = [storage.join(folder, name) for name in names if name.endswith(".parquet")]
    return [no_pattern(address) for address in addresses if address not in damaged]


def _read(files: list[str], option: str = "") -> str:
    """SQL that reads Parquet files, which are patterns."""
    return f"read_parquet([{', '.join(map(literal, files))}]{option})"


def _read_old(files: list[str], empty: str) -> str:
    """The same for files that may lack columns of the empty table of that name, which are null there. Slower, since
    DuckDB looks at every file first.
    """
    return f"(SELECT * FROM {_read(files, ', union_by_name = true')} UNION ALL BY NAME SELECT * FROM {empty})"


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def no_pattern(location: str) -> str:
    """A location as DuckDB's globs take it literally."""
    return re.sub(r"([*?\[])", r"[\1]", location)
