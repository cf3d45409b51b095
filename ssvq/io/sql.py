"""DuckDB over local files and S3."""

import duckdb

from ssvq.io import parquet, storage

UNREADABLE = (*parquet.UNREADABLE, duckdb.Error)
"""What DuckDB and pyarrow raise for objects that cannot be read."""


def connect(location: str) -> duckdb.DuckDBPyConnection:
    """A connection in memory that reads `location` and what lies beside it. It takes credentials and patience from the
    one place that all storage does.
    """
    connection = duckdb.connect()
    if storage.is_remote(location):
        connection.register_filesystem(storage.filesystem(location)[0])
    return connection
