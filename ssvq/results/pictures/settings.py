"""Settings of `ssvq overlay`."""

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location


class OverlayConfig(Command):
    """Write a picture of one image with the heat of its score map over it, or of the worst tiles of a survey."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    image: CliPositionalArg[str] = ""
    """The image: its address, or an end of it that only one image has; or give --worst."""

    out: Path
    """PNG file to write."""

    worst: int | None = Field(None, gt=0, le=100)
    """Draw a montage of this many tiles with the highest scores."""

    survey: str | None = None
    """Survey of the montage (default: all)."""

    model_id: str | None = None
    """Model whose scores are drawn (default: the latest)."""

    @model_validator(mode="after")
    def _one_picture(self) -> "OverlayConfig":
        if bool(self.image) == (self.worst is not None):
            raise ValueError("give the image to draw, or --worst and how many tiles, and not both")
        return self
