"""DuckDB over local files and S3."""

import duckdb

from ssvq.io import parquet, storage

UNREADABLE = (*parquet.UNREADABLE, duckdb.Error)
"""Errors of DuckDB and pyarrow for objects that cannot be read."""


def connect(location: str) -> duckdb.DuckDBPyConnection:
    """An in-memory connection that reads `location` and its neighbours.

    Credentials and retries are those of all storage.
    """
    connection = duckdb.connect()
    if storage.is_remote(location):
        connection.register_filesystem(storage.filesystem(location)[0])
    return connection
