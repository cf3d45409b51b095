"""`ssvq publish`: the many small score maps of a survey as one sorted GeoParquet file, for analysts.

Images are sorted by their worst tile, so a query for high scores reads only the first row groups. A Bloom filter over
image_id and image_uri finds the row group of one image.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssvq.errors import ExitCode
from ssvq.io import storage
from ssvq.parallel import in_order
from ssvq.progress import Progress
from ssvq.results.settings import PublishConfig
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scores.objects import read_score_map, temporary_folder
from ssvq.scores.partitions import METADATA, PartitionInfo, is_published
from ssvq.scores.schema import SCORE_MAP

ROWS_IN_GROUP = 16_384  # with their score maps some 8 MB
READS_AT_ONCE = 16
SEARCHED = ("image_id", "image_uri", "tile_id")  # columns with a Bloom filter

Result = TypeVar("Result")


def publish(config: PublishConfig) -> ExitCode:
    """Publish every partition of a survey whose published file is out of date.

    Raises InputError for an unknown survey or model, and for score maps that are damaged or missing.
    """
    with Scores(config.scores) as scores:
        scores.check_known(config.survey, config.model_id)
        for info in scores.partitions():
            partition = info.partition
            if partition.survey != config.survey or config.model_id not in (None, partition.model_id):
                continue
            if not info.images:
                continue
            if is_published(info):
                print(f"{partition.published} is up to date: nothing to do.")
                continue
            rows = scores.rows(partition)
            rows = rows.filter(pc.is_valid(rows["object_version"]))
            runs = sorted(set(rows["run_id"].to_pylist()))
            written = write_published(info, rows["image_id"].to_pylist(), runs)
            print(f"{partition.published}: {written} tiles of {len(rows)} images")
    return ExitCode.DONE


def write_published(info: PartitionInfo, images: list[str], runs: list[str]) -> int:
    """Write the published file of a partition from the objects of its images. Returns its number of rows.

    Memory holds a row group and the objects that are read ahead.
    """
    partition = info.partition
    described = {
        **partition.identity,
        "runs": runs,
        "images": info.images,
        "state": info.state,
    }
    schema = SCORE_MAP.with_metadata({**(SCORE_MAP.metadata or {}), METADATA: json.dumps(described)})
    with Progress("publishing", 2 * len(images), "reads") as progress:
        worst = list(_in_parallel(lambda image: _worst_score(partition, image), images, progress))
        order = [images[i] for i in np.argsort([-score for score in worst], kind="stable")]
        tables = _in_parallel(lambda image: read_score_map(partition.score_map(image)).cast(SCORE_MAP), order, progress)
        with temporary_folder(partition.out) as folder:
            file = folder / "published.parquet"
            rows = _write(file, schema, tables)
            storage.put_file(partition.published, file)
    return rows


def _write(file: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    columns = {name: {"ndv": ROWS_IN_GROUP} for name in SEARCHED}
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd", bloom_filter_options=columns) as writer:
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS_IN_GROUP:
                rows += _write_group(writer, waiting, schema)
                waiting = []
        rows += _write_group(writer, waiting, schema)
    return rows


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table], schema: pa.Schema) -> int:
    table = pa.concat_tables([schema.empty_table(), *tables])
    if len(table):
        writer.write_table(table, row_group_size=len(table))
    return len(table)


def _worst_score(partition: Partition, image: str) -> float:
    """The highest score of an image; the rest of its object is not decoded."""
    scores = read_score_map(partition.score_map(image), ["score"])["score"]
    return float(pc.max(scores).as_py() or 0)


def _in_parallel(work: Callable[[str], Result], images: Sequence[str], progress: Progress) -> Iterator[Result]:
    """Results in order. A bounded number of them is computed ahead of the consumer."""
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        for result in in_order(threads, work, images, 2 * READS_AT_ONCE):
            yield result
            progress.advance(1)
