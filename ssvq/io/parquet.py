"""Reads and writes whole Parquet objects, and says in words why one cannot be read. Nothing else does."""

import io
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.errors import reason_of
from ssvq.io import storage
from ssvq.io.storage import ObjectInfo

ROWS_IN_GROUP = 16_384  # with their score maps some 8 MB

# Errors of pyarrow for Parquet that is truncated, damaged or something else; they include OSError.
UNREADABLE = (pa.ArrowException, OSError, ValueError)


class DamagedError(Exception):
    """An object is not Parquet, is damaged, or lacks a column. The message is the reason, in one line."""


def encode(table: pa.Table) -> bytes:
    """A table as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_IN_GROUP)
    return buffer.getvalue()


def put(address: str, table: pa.Table, staging: str | None = None) -> ObjectInfo:
    """Write a table as one object, as `storage.put` does. Raises StorageError."""
    return storage.put(address, encode(table), staging=staging)


def opened(address: str) -> pa.NativeFile:
    """An object for pyarrow to read; one on S3 is in memory. Raises FileNotFoundError, StorageError."""
    path = storage.local_path(address)
    return pa.BufferReader(storage.read_bytes(address)) if path is None else pa.OSFile(path)


def decode(
    data: bytes | pa.Buffer,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
    optional: Collection[str] = (),
) -> pa.Table:
    """The table of an object, or some columns in their order; with a schema, in its columns and types.

    `optional` columns of the schema may be missing, as in objects of an earlier version: they become null. Raises
    DamagedError.
    """
    try:
        source = pa.BufferReader(data)
        if columns is None and schema is None:
            return pq.read_table(source)
        wanted = list(dict.fromkeys(schema.names if columns is None and schema is not None else columns or []))
        there = set(pq.read_schema(source).names)
        missing = [name for name in wanted if name not in there]
        if lost := [name for name in missing if name not in optional]:
            raise DamagedError(f"lacks the column {lost[0]}")
        table = pq.read_table(source, columns=[name for name in wanted if name in there])
        for name in missing:
            table = table.append_column(name, pa.nulls(len(table), schema.field(name).type if schema else pa.null()))
        table = table.select(wanted)
        return table if schema is None else table.cast(_part_of(schema, wanted))
    except UNREADABLE as error:
        raise DamagedError(reason_of(error)) from None


def _part_of(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return schema if names == schema.names else pa.schema([schema.field(name) for name in names])


def read(
    address: str,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
    optional: Collection[str] = (),
) -> pa.Table:
    """`decode` of the object at an address. Raises FileNotFoundError, StorageError, DamagedError."""
    return decode(storage.read_bytes(address), columns, schema, optional)
