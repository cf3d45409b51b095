"""Settings of the command that takes labels of tiles."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.config.base import Command, Location, Output

TileLabel = Literal["normal", "anomalous"]


class LabelConfig(Command):
    """Label scored tiles as normal or anomalous, for `ssvq train --labels`."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    out: Output
    """Parquet file of labels, local or s3://; it is made, or added to."""

    marks: Location | None = Field(None, validation_alias="from")
    """File that a page of `ssvq report` saved."""

    tiles: Location | None = None
    """CSV with a column tile_id, such as `ssvq query --format csv` writes; goes with --as."""

    label: TileLabel | None = Field(None, validation_alias="as")
    """What these tiles are: normal or anomalous."""

    who: str | None = None
    """Who says so (default: the user's name)."""

    model_id: str | None = None
    """Model whose tiles are meant (default: the one that the file names, else the latest)."""

    @model_validator(mode="after")
    def _one_source(self) -> "LabelConfig":
        if (self.marks is None) == (self.tiles is None):
            raise ValueError("give --from and the file of a report page, or --tiles and --as, and not both")
        if (self.tiles is None) != (self.label is None):
            raise ValueError("--tiles and --as go together: a file of --from says what each tile is")
        return self
