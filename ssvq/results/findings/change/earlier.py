"""The earlier survey: its images, and its findings by image, which wait on disk and not in memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.errors import InputError, reason_of
from ssvq.io import storage
from ssvq.io.sql import UNREADABLE
from ssvq.results.findings.settings import FindingsConfig, Thresholds
from ssvq.scores.data_set import Scores
from ssvq.scores.findings import FINDINGS
from ssvq.scores.layout import Partition
from ssvq.scores.ledger_row import ImageRow
from ssvq.scores.partitions import METADATA
from ssvq.scores.views import literal, no_pattern

ROWS_AT_ONCE = 4096


def earlier_images(config: FindingsConfig, partition: Partition) -> list[ImageRow]:
    """The scored images of `config.previous`, by the model and tiling of a partition.

    Raises InputError if there is none, and names what there is.
    """
    with Scores(config.scores) as known:
        surveys = known.surveys()
        if config.previous not in surveys:
            there = ", ".join(surveys[:5])
            raise InputError(f"--previous {config.previous}: {config.scores} has no such survey, but {there}")
        rows = known.sql("SELECT * FROM images WHERE survey = $1 ORDER BY image_uri", [config.previous])
    scored = ImageRow.from_table(rows)
    if not scored:
        raise InputError(f"--previous {config.previous}: no image of this survey is scored; run `ssvq score` again")
    same_model = [row for row in scored if row.model_id == partition.model_id]
    if not same_model:
        raise InputError(
            f"--previous {config.previous}: it was scored by model {scored[0].model_id}, and {config.survey!r} by "
            f"{partition.model_id}; scores of two models cannot be compared: score both surveys with one model, and "
            "name it by --model-id"
        )
    same = [row for row in same_model if row.tiling_id == partition.tiling_id]
    if not same:
        raise InputError(
            f"--previous {config.previous}: its tiles are {same_model[0].tiling_id}, and those of {config.survey!r} "
            f"{partition.tiling_id}; their thresholds differ: score both surveys with one tile size and stride"
        )
    return same


class EarlierFindings:
    """The findings of an earlier partition by image, without those of images that have changed since.

    A context manager; its file lies in `folder`. `outdated`: how many findings were left out.

    Raises InputError if there is no table, if it is damaged, or if it was made with other thresholds.
    """

    def __init__(self, folder: Path, partition: Partition, images: Sequence[ImageRow], thresholds: Thresholds) -> None:
        source = folder / "source.parquet"
        try:
            with storage.open_read(partition.findings) as file:
                source.write_bytes(file.read())
        except FileNotFoundError:
            raise InputError(
                f"survey {partition.survey!r} has no table of findings: make it by `ssvq findings {partition.out} "
                f"--survey {partition.survey}` first, with the same thresholds"
            ) from None
        try:
            _check(pq.read_metadata(source).metadata or {}, partition, thresholds)
            path = folder / "earlier.arrow"
            self.rows, self.outdated = _write_by_image(source, path, images)
        except UNREADABLE as error:
            raise InputError(
                f"{partition.findings} is damaged ({reason_of(error)}): make it anew by `ssvq findings`"
            ) from None
        self.table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def of(self, image_id: str) -> pa.Table:
        """Rows of FINDINGS of an image."""
        start, stop = self.rows.get(image_id, (0, 0))
        return self.table.slice(start, stop - start)


def _check(metadata: dict[bytes, bytes], partition: Partition, thresholds: Thresholds) -> None:
    """Raises InputError unless the table was made with these thresholds."""
    described = json.loads(metadata.get(METADATA, b"{}")).get("thresholds")
    if described != thresholds.model_dump():
        what = "of an earlier version" if described is None else f"with {Thresholds(**described).told()}"
        raise InputError(
            f"the findings of {partition.survey!r} were made {what}, and these with {thresholds.told()}: areas can be "
            f"compared by one threshold only; run `ssvq findings {partition.out} --survey {partition.survey}` again"
        )


def _write_by_image(source: Path, path: Path, images: Sequence[ImageRow]) -> tuple[dict[str, tuple[int, int]], int]:
    """Write the rows of unchanged images, sorted by image, as an Arrow file.

    Returns the range of rows of each image, and how many rows were left out.
    """
    current = pa.table({name: [getattr(image, name) for image in images] for name in ("image_id", "fingerprint")})
    rows: dict[str, tuple[int, int]] = {}
    with duckdb.connect() as connection:
        connection.register("current", current)
        connection.register("none", FINDINGS.remove_metadata().empty_table())
        columns = ", ".join(FINDINGS.names)
        found = connection.sql(
            f"SELECT {columns} FROM (SELECT * FROM read_parquet({literal(no_pattern(str(source)))}) "
            "UNION ALL BY NAME SELECT * FROM none) SEMI JOIN current USING (image_id, fingerprint) ORDER BY image_id"
        ).to_arrow_reader(ROWS_AT_ONCE)
        number = 0
        with pa.ipc.new_file(str(path), FINDINGS) as writer:
            for batch in found:
                table = pa.Table.from_batches([batch]).cast(FINDINGS)
                writer.write_table(table)
                for image_id in table["image_id"].to_pylist():
                    start, _ = rows.get(image_id, (number, number))
                    number += 1
                    rows[image_id] = start, number
    return rows, pq.read_metadata(source).num_rows - number
