"""The partitions of an output, their state by the ledger, and whether their published file is up to date."""

import json
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.io import storage
from ssvq.scores.layout import Partition

METADATA = b"ssvq"  # key in the file metadata of a published file

# The state of a partition is a digest of its images with an object, their sources and versions.
_STATES = """
    SELECT survey, model_id, tiling_id, count(object_version) AS images, bool_or(run_number IS NULL) AS has_old,
           md5(string_agg(concat_ws(' ', image_id, fingerprint, object_version), ',' ORDER BY image_id)
               FILTER (object_version IS NOT NULL)) AS state
    FROM images GROUP BY ALL ORDER BY survey, max(run_number) NULLS FIRST, max(recorded_at)
"""


@dataclass(frozen=True)
class PartitionInfo:
    """A partition, and what the latest ledger rows say about it."""

    partition: Partition
    images: int
    """Number of images with an object."""
    state: str | None
    """Digest of the state; None without an image."""
    has_old: bool = False
    """Whether some objects may be of version 0.1, which has fewer columns."""


def partitions(connection: duckdb.DuckDBPyConnection, scores: str) -> list[PartitionInfo]:
    """All partitions in the ledger, by survey, then by their latest row, oldest first. Reads the view `images`."""
    return [
        PartitionInfo(Partition(scores, survey, model_id, tiling_id), images, state, has_old)
        for survey, model_id, tiling_id, images, has_old, state in connection.execute(_STATES).fetchall()
    ]


def is_published(info: PartitionInfo) -> bool:
    """Whether the published file matches the ledger."""
    if info.state is None:
        return False
    try:
        with storage.open_read(info.partition.published) as file:
            metadata = pq.read_metadata(file).metadata or {}
        described = json.loads(metadata.get(METADATA, b"{}"))
    except (OSError, ValueError, pa.ArrowException):  # missing or damaged: the single objects are read instead
        return False
    return isinstance(described, dict) and described.get("state") == info.state
