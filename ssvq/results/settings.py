"""Settings of the commands that ask score maps, publish and label them."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output

TileLabel = Literal["normal", "anomalous"]
NamedQuery = Literal["worst-tiles", "by-image", "failures", "trend", "drift", "change"]


class QueryConfig(Command):
    """Run SQL over score maps: views `tiles` (a row a tile), `images` (the latest row of each), `findings`, `gone`."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    sql: CliPositionalArg[str] = ""
    """The SQL to run, in DuckDB's dialect; or give --named."""

    named: NamedQuery | None = None
    """A ready-made query: worst-tiles, by-image, failures, trend (by survey), drift (of scores from calibration),
    or change (of findings since an earlier survey)."""

    survey: list[str] | None = None
    """Only these surveys (default: all)."""

    model_id: str | None = None
    """Only this model (default: all)."""

    threshold: float | None = None
    """Scores at or over it are anomalous (default: the model's own threshold)."""

    false_positive_rate: float | None = Field(None, gt=0, lt=1)
    """Share of normal tiles that may be called anomalous: a tile is anomalous if its p_value is at or under it."""

    limit: int = Field(20, gt=0)
    """Rows of worst-tiles, by-image and change."""

    format: Literal["table", "csv", "json", "parquet"] = "table"
    """Format of the answer; parquet is written to --out or, as bytes, to standard output."""

    out: Path | None = None
    """File for the answer (default: standard output)."""

    @model_validator(mode="after")
    def _one_query(self) -> "QueryConfig":
        if bool(self.sql) == (self.named is not None):
            raise ValueError("give the SQL to run, or --named and the name of a query, and not both")
        if self.threshold is not None and self.false_positive_rate is not None:
            raise ValueError("--threshold and --false-positive-rate exclude each other")
        return self


class PublishConfig(Command):
    """Make one sorted GeoParquet file of all score maps of a survey, for analysts."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    model_id: str | None = None
    """Only the scores of this model (default: each model has its file)."""


class LabelConfig(Command):
    """Take what people say of scored tiles and findings: labels for `ssvq train --labels`, and states of findings."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str | None = None
    """Name of the survey in the output (default: the one that the file of --from names)."""

    out: Output | None = None
    """Parquet file of labels, local or s3://; it is made, or added to (default: SCORES/labels/SURVEY.parquet)."""

    marks: Location | None = Field(None, validation_alias="from")
    """File that a page of `ssvq report` saved: labels of tiles, and decisions on findings."""

    tiles: Location | None = None
    """CSV with a column tile_id, such as `ssvq query --format csv` writes; goes with --survey and --as."""

    label: TileLabel | None = Field(None, validation_alias="as")
    """What these tiles are: normal or anomalous."""

    who: str | None = None
    """Who says so, where the page's file does not name a person (default: the user's name)."""

    model_id: str | None = None
    """Model whose tiles are meant (default: the one that the file names, else the latest)."""

    @model_validator(mode="after")
    def _one_source(self) -> "LabelConfig":
        if (self.marks is None) == (self.tiles is None):
            raise ValueError("give --from and the file of a report page, or --tiles and --as, and not both")
        if (self.tiles is None) != (self.label is None):
            raise ValueError("--tiles and --as go together: a file of --from says what each tile is")
        if self.tiles is not None and self.survey is None:
            raise ValueError("--survey is missing: it says which survey the tiles of --tiles are of")
        return self
