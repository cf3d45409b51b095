"""The content of an output: surveys, models, tilings, images and tiles, and which of them are the latest."""

import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Self

import duckdb
import pyarrow as pa

from ssvq.errors import InputError, reason_of
from ssvq.io import sql as database
from ssvq.scores.layout import Partition
from ssvq.scores.partitions import PartitionInfo, partitions
from ssvq.scores.schema import LATEST_FIRST
from ssvq.scores.views import create_findings, create_gone, create_images, create_tiles, narrowed, reading

# The views themselves were bound before, so these errors are not about damaged objects.
WRONG_SQL = (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException)


class Scores:
    """The output of `ssvq score`, on local disk or S3. Nothing is read before it is asked for, and who asks for the
    ledger alone does not look at the score maps.

        with Scores("s3://bucket/scores") as scores:
            worst = scores.sql("SELECT image_uri, score FROM tiles ORDER BY score DESC LIMIT 10")  # a pyarrow.Table

    Args:
        root: folder or s3:// prefix that `ssvq score --out` wrote.
        damaged: addresses of objects to leave out.
    """

    def __init__(self, root: str, damaged: Collection[str] = ()) -> None:
        self.root, self._damaged = root, damaged
        self._has_tiles = False
        self.has_findings: bool | None = None
        """Whether there is any table of findings; None before they have been asked for."""
        self.has_gone: bool | None = None
        """The same of tables of what is gone since an earlier survey."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if "connection" in self.__dict__:
            self.connection.close()

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the view `images`.

        Raises InputError for a folder without score maps, UnreadableError for a ledger that cannot be read.
        """
        connection = database.connect(self.root)
        with self._reading():
            create_images(connection, self.root, self._damaged)
        return connection

    def add_views(self, sql: str) -> None:
        """Create those of the views `tiles`, `findings` and `gone` that the SQL names. Raises as `connection`."""
        if re.search(r"\btiles\b", sql, re.IGNORECASE) and not self._has_tiles:
            with self._reading():
                create_tiles(self.connection, self.root, self._damaged)
            self._has_tiles = True
        if re.search(r"\bfindings\b", sql, re.IGNORECASE) and self.has_findings is None:
            self.has_findings = create_findings(self.connection, self.root)
        if re.search(r"\bgone\b", sql, re.IGNORECASE) and self.has_gone is None:
            self.has_gone = create_gone(self.connection, self.root)

    def sql(self, sql: str, parameters: object = None) -> pa.Table:
        """Run SQL in DuckDB's dialect over the views `tiles`, `images`, `findings` and `gone`.

        Returns a table; an empty one for statements that are not a SELECT. Raises InputError for wrong SQL, and
        UnreadableError for objects that cannot be read.
        """
        connection = self.connection
        self.add_views(sql)
        with reading("SQL: "):
            try:
                answer = connection.sql(sql, params=parameters)
                return pa.table({}) if answer is None else answer.to_arrow_table()
            except WRONG_SQL as error:
                raise InputError(f"SQL: {reason_of(error)}") from None

    def surveys(self) -> list[str]:
        """Names of the surveys, in order."""
        return list(self.sql("SELECT DISTINCT survey FROM images ORDER BY 1")["survey"].to_pylist())

    def partitions(self) -> list[PartitionInfo]:
        """All partitions, by survey, then by their latest row, oldest first."""
        return partitions(self.connection, self.root)

    def latest(self, survey: str | None = None, model_id: str | None = None) -> list[Partition]:
        """The partition that scored last, for each survey or for the one named. If every image of it failed, the one
        that failed last.

        Raises InputError for an unknown survey or model.
        """
        where = narrowed(survey=survey, model_id=model_id)
        found = self.sql(f"""
            SELECT survey, model_id, tiling_id FROM images WHERE status IN ('scored', 'failed') {where}
            QUALIFY row_number() OVER (
                PARTITION BY survey ORDER BY status = 'scored' DESC, {LATEST_FIRST}, model_id DESC, tiling_id DESC
            ) = 1 ORDER BY survey
        """).to_pylist()
        if not found:
            self.check_known(survey, model_id)
            raise InputError(f"{self.root}: no image{_of(survey, model_id)} has been scored, and none has failed")
        return [Partition(self.root, **row) for row in found]

    def latest_model(self, survey: str | None = None) -> str:
        """The model that scored last, in one survey or in all. Raises InputError as `latest`."""
        if survey is not None:
            return self.latest(survey)[0].model_id
        # Runs are numbered within a survey: only times compare across surveys.
        (model_id,) = self.sql("SELECT model_id FROM images ORDER BY recorded_at DESC LIMIT 1")["model_id"].to_pylist()
        return str(model_id)

    def rows(self, partition: Partition) -> pa.Table:
        """The latest ledger row of each image of a partition, by address."""
        where = "survey = $survey AND model_id = $model_id AND tiling_id = $tiling_id"
        return self.sql(f"SELECT * FROM images WHERE {where} ORDER BY image_uri", partition.identity)

    def others(self, partitions: Sequence[Partition], model_id: str | None = None) -> list[Partition]:
        """The other partitions of the same surveys, by this model if one is named."""
        surveys = {partition.survey for partition in partitions}
        known = [info.partition for info in self.partitions() if model_id in (None, info.partition.model_id)]
        return [one for one in known if one.survey in surveys and one not in partitions]

    def check_known(self, survey: str | None, model_id: str | None) -> None:
        """Raises InputError, with the known names, for an unknown survey or a model that has not scored it."""
        if survey is not None and survey not in (surveys := self.surveys()):
            raise InputError(f"--survey {survey}: {self.root} has no such survey, but {', '.join(surveys[:5])}")
        if model_id is None:
            return
        found = self.sql(f"SELECT DISTINCT model_id FROM images WHERE true {narrowed(survey=survey)} ORDER BY 1")
        models = found["model_id"].to_pylist()
        if model_id not in models:
            what = "no image" if survey is None else f"no image of survey {survey}"
            raise InputError(
                f"--model-id {model_id}: {what} was scored by such a model, but by {', '.join(models[:5])}"
            )

    def _reading(self) -> AbstractContextManager[None]:
        return reading(f"score maps of {self.root} cannot be read: ")


def _of(survey: str | None, model_id: str | None) -> str:
    return (f" of survey {survey}" if survey else "") + (f" of model {model_id}" if model_id else "")
