"""The DuckDB views of an output: `tiles`, `images`, `findings` and `gone`."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.io import storage
from ssvq.io.sql import UNREADABLE
from ssvq.scores.findings import FINDINGS
from ssvq.scores.layout import findings_folder, gone_folder, images_folder
from ssvq.scores.partitions import is_published, partitions
from ssvq.scores.schema import LATEST_FIRST, LEDGER, SCORE_MAP

KEY = ("survey", "model_id", "tiling_id", "image_id")
MAP_AS_READ = pa.list_(pa.list_(pa.float32()))


class UnreadableError(InputError):
    """Something could not be read, perhaps because objects are damaged."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn read errors into UnreadableError with a message of one line."""
    try:
        yield
    except UNREADABLE as error:
        raise UnreadableError(f"{what}{reason_of(error)}") from None


def create_images(connection: duckdb.DuckDBPyConnection, scores: str, damaged: Collection[str]) -> None:
    """The view `images`: the latest row of the ledger for each image, survey, model and tiling.

    Raises InputError for a folder without score maps.
    """
    folder = images_folder(scores)
    segments = [info.path for info in storage.list_files(folder) if info.path.endswith(".parquet")]
    if not segments:
        raise InputError(f"{scores} holds no score maps; give the folder that `ssvq score --out` wrote")
    files = _without(folder, segments, damaged)
    if not files:
        raise InputError(f"every segment of the ledger of {scores} is damaged: remove them and run `ssvq score` again")
    # A row without its key, from another kind of table, belongs to no image. Keys are names of folders and objects: one
    # that leads to another folder would make us read or write files there.
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


def create_tiles(connection: duckdb.DuckDBPyConnection, scores: str, damaged: Collection[str]) -> None:
    """Create the view `tiles`: the rows of all score maps. It needs the view `images`."""
    files, old = _tile_files(connection, scores, damaged)
    # DuckDB reads half floats from Parquet, as floats, but not from Arrow.
    as_read = pa.schema([f.with_type(MAP_AS_READ) if f.name == "score_map" else f for f in SCORE_MAP])
    connection.register("no_tiles", as_read.empty_table())
    sources = ([_read(files)] if files else []) + ([_read_old(old, "no_tiles")] if old else [])
    names = ", ".join(SCORE_MAP.names)
    selected = (f"SELECT {names} FROM {source}" for source in sources or ["no_tiles"])
    connection.execute(f"CREATE VIEW tiles AS {' UNION ALL '.join(selected)}")


def create_findings(connection: duckdb.DuckDBPyConnection, scores: str) -> bool:
    """Create the view `findings`: findings of images that are scored and unchanged. Returns whether a table of findings
    exists.
    """
    return _create_findings(connection, scores, "findings", findings_folder(scores))


def create_gone(connection: duckdb.DuckDBPyConnection, scores: str) -> bool:
    """Create the view `gone`, as `create_findings`: earlier findings whose place shows nothing any more."""
    return _create_findings(connection, scores, "gone", gone_folder(scores))


def _create_findings(connection: duckdb.DuckDBPyConnection, scores: str, view: str, folder: str) -> bool:
    files = [storage.join(folder, info.path) for info in storage.list_files(folder) if info.path.endswith(".parquet")]
    connection.register("no_findings", FINDINGS.empty_table())
    source = _read_old([no_pattern(file) for file in files], "no_findings") if files else "no_findings"
    with reading(f"{view} of {scores} cannot be read; run `ssvq findings` again: "):
        connection.execute(
            f"CREATE VIEW {view} AS SELECT {', '.join(FINDINGS.names)} FROM {source} "
            f"SEMI JOIN (SELECT * FROM images WHERE status = 'scored') USING ({', '.join(KEY)}, fingerprint)"
        )
    return bool(files)


def _tile_files(
    connection: duckdb.DuckDBPyConnection, scores: str, damaged: Collection[str]
) -> tuple[list[str], list[str]]:
    """Patterns of the files that hold the score maps: the published file of a partition if it is up to date, else the
    objects of its images. Partitions with objects of an earlier version are separate.
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
    """Patterns of the Parquet objects of a folder: one for all, unless some are damaged."""
    if not damaged:
        return [storage.join(no_pattern(folder), "*.parquet")]
    addresses = [storage.join(folder, name) for name in names if name.endswith(".parquet")]
    return [no_pattern(address) for address in addresses if address not in damaged]


def _read(files: list[str], option: str = "") -> str:
    """SQL that reads Parquet files; `files` are patterns."""
    return f"read_parquet([{', '.join(map(literal, files))}]{option})"


def _read_old(files: list[str], empty: str) -> str:
    """SQL that reads Parquet files which may lack columns of the empty table of that name; these become null.

    It is slower, since DuckDB opens every file first.
    """
    return f"(SELECT * FROM {_read(files, ', union_by_name = true')} UNION ALL BY NAME SELECT * FROM {empty})"


def literal(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def no_pattern(location: str) -> str:
    """A location with the characters of DuckDB's patterns escaped."""
    return re.sub(r"([*?\[])", r"[\1]", location)


def narrowed(**wanted: str | None) -> str:
    """SQL conditions for the columns that have a value; each begins with AND."""
    return "".join(f" AND {name} = {literal(value)}" for name, value in wanted.items() if value is not None)
