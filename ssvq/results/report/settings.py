"""Settings of the command that makes one page of a survey."""

from pydantic import Field
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output


class ReportConfig(Command):
    """Make one self-contained HTML page of a survey, to review its findings: crops, overlays, map, numbers."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    out: Output
    """HTML file to write, local or s3://."""

    model_id: str | None = None
    """Model whose scores are shown (default: the one that scored last)."""

    pictures: int = Field(200, ge=0, le=2000)
    """Images with a thumbnail and an overlay, those with the worst scores; the others have numbers only."""

    findings: int = Field(1000, ge=0, le=20_000)
    """Findings that are listed with a crop, the worst ones; the others are counted."""
