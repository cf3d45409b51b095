"""Finds damaged objects of an output. It reads every object, so it runs only after a query has failed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.errors import reason_of
from ssvq.io import parquet, storage
from ssvq.io.sql import UNREADABLE, connect
from ssvq.scores.layout import images_folder
from ssvq.scores.schema import ADDED, LEDGER, SCORE_MAP

READS_AT_ONCE = 16


def damaged_objects(scores: str) -> dict[str, str]:
    """Score maps, published files and ledger segments that cannot be read, by address, with the reason.

    Raises OSError if the storage fails.
    """
    objects = list(_objects(scores))
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        reasons = list(threads.map(lambda item: _damage(*item), objects))
    found = {address: reason for (address, _), reason in zip(objects, reasons, strict=True) if reason is not None}
    # pyarrow reads some files that DuckDB cannot.
    return found or {address: reason for address, _ in objects if (reason := _damage_to_duckdb(address)) is not None}


def _objects(scores: str) -> Iterator[tuple[str, pa.Schema]]:
    folders = {images_folder(scores): LEDGER}
    folders |= {storage.join(scores, folder): SCORE_MAP for folder in ("tiles", "published")}
    for folder, schema in folders.items():
        for info in storage.list_files(folder):
            if info.path.endswith(".parquet"):
                yield storage.join(folder, info.path), schema


def _damage(address: str, schema: pa.Schema) -> str | None:
    try:
        # Outside the next `try`: a failing storage is not damage.
        source = parquet.opened(address)
    except FileNotFoundError:  # it was removed after it was listed
        return None
    try:
        with source, pq.ParquetFile(source) as file:
            missing = set(schema.names) - ADDED - set(file.schema_arrow.names)
            if missing and schema is SCORE_MAP:
                return f"lacks the column {min(missing)}"
            for batch in file.iter_batches():
                batch.validate(full=True)
    except UNREADABLE as error:
        return reason_of(error)
    return None


def _damage_to_duckdb(address: str) -> str | None:
    with connect(address) as connection:
        try:
            connection.read_parquet([address]).to_arrow_table()
        except UNREADABLE as error:
            return reason_of(error)
    return None
