"""The partitions of an output, what state the ledger says they are in, and whether their published file is of it."""

import json
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.io import storage
from ssvq.scores.layout import Partition

METADATA = b"ssvq"  # key of the file metadata of a published file

# The state of a partition is a digest of which images have an object, of what, and in which version.
_STATES = """
    SELECT survey, model_id, tiling_id, count(object_version) AS images, bool_or(run_number IS NULL) AS has_old,
           md5(string_agg(concat_ws(' ', image_id, fingerprint, object_version), ',' ORDER BY image_id)
               FILTER (object_version IS NOT NULL)) AS state
    FROM images GROUP BY ALL ORDER BY survey, max(run_number) NULLS FIRST, max(recorded_at)
"""


@dataclass(frozen=True)
class PartitionInfo:
    """A partition, and what the latest rows of the ledger say of it."""

    partition: Partition
    images: int
    """Those with an object."""
    state: str | None
    """None without an image."""
    has_old: bool = False
    """Whether objects may be of version 0.1, which lack columns."""


def partitions(connection: duckdb.DuckDBPyConnection, scores: str) -> list[PartitionInfo]:
    """All that the ledger knows, by survey and then by their latest row, oldest first; from the view `images`."""
    return [
        PartitionInfo(Partition(scores, survey, model_id, tiling_id), images, state, has_old)
        for survey, model_id, tiling_id, images, has_old, state in connection.execute(_STATES).fetchall()
    ]


def is_published(info: PartitionInfo) -> bool:
    """Whether the published file holds what the ledger says."""
    if info.state is None:
        return False
    try:
        with storage.open_read(info.partition.published) as file:
            metadata = pq.read_metadata(file).metadata or {}
        described = json.loads(metadata.get(METADATA, b"{}"))
    except (OSError, ValueError, pa.ArrowException):  # not there, or damaged: then the small objects are read
        return False
    return isinstance(described, dict) and described.get("state") == info.state
