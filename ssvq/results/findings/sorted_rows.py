"""Sorts rows of findings into one file. The rows wait on disk and not in memory, since a large survey has millions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.io.parquet import ROWS_IN_GROUP
from ssvq.scores.findings import FINDINGS
from ssvq.scores.views import literal, no_pattern

MEMORY = "512MB"  # memory of the sort; beyond it the sort uses the disk


class SortedRows:
    """Takes tables of FINDINGS in any order, and writes them worst first: by severity, by distance over the threshold,
    by area.

    A context manager. `folder`, which it creates, holds its files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.waiting = folder, folder / "waiting.parquet"
        # Without the GeoParquet metadata, for which DuckDB would turn geometries into a type of its own.
        self.writer = pq.ParquetWriter(self.waiting, FINDINGS.remove_metadata(), compression="lz4")

    def __enter__(self) -> "SortedRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def add(self, rows: pa.Table) -> None:
        """Add rows of FINDINGS."""
        if len(rows):
            self.writer.write_table(rows.replace_schema_metadata())

    def written(self, severities: Sequence[str], described: Mapping[bytes, str]) -> Path:
        """The GeoParquet file of all rows. `severities`: worst first; `described`: its metadata."""
        self.writer.close()
        file, schema = (
            self.folder / "sorted.parquet",
            FINDINGS.with_metadata({**(FINDINGS.metadata or {}), **described}),
        )
        source = f"read_parquet({literal(no_pattern(str(self.waiting)))})"
        with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(self.folder)}) as connection:
            ordered = connection.sql(
                f"""
                SELECT * FROM {source}
                ORDER BY list_position($severities, severity), times_threshold DESC NULLS LAST, area_pixels DESC,
                         finding_id
                """,
                params={"severities": list(severities)},
            ).to_arrow_reader(ROWS_IN_GROUP)
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for batch in ordered:
                    writer.write_table(pa.Table.from_batches([batch]).cast(schema), row_group_size=ROWS_IN_GROUP)
        return file
