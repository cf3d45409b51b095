"""Settings of the command that reports a survey, as a page to review or as a document to hand over."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output

Format = Literal["html", "pdf"]
Paper = Literal["a4", "letter"]

PICTURES: dict[Format, int] = {"html": 200, "pdf": 8}
"""Images with a picture, by default."""

# A PDF is laid out in memory: half a MB for each finding.
MOST_FINDINGS, MOST_PICTURES = 2000, 500


class ReportConfig(Command):
    """Report a survey: one self-contained HTML page to review its findings, or a PDF to hand over."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    out: Output
    """File to write, local or s3://."""

    format: Format | None = None
    """The page to review (html), or the document to hand over (pdf). Default: pdf where --out ends in .pdf."""

    model_id: str | None = None
    """Model whose scores are shown (default: the one that scored last)."""

    pictures: int | None = Field(None, ge=0, le=2000)
    """Images with a picture and an overlay, those with the worst scores (default: 200 on the page, 8 in the PDF). The
    others have numbers only."""

    findings: int = Field(1000, ge=0, le=20_000)
    """Findings that are listed with a crop, the worst ones; the others are counted. A PDF takes at most 2000."""

    paper: Paper = "a4"
    """Size of the PDF's pages."""

    title: str = Field("Inspection report", min_length=1, max_length=200)
    """Title of the PDF."""

    author: str | None = Field(None, max_length=200)
    """Who hands the PDF over: a name on its cover."""

    @model_validator(mode="after")
    def _fits_on_paper(self) -> "ReportConfig":
        for name, most in (("findings", MOST_FINDINGS), ("pictures", MOST_PICTURES)):
            if self.kind == "pdf" and (getattr(self, name) or 0) > most:
                raise ValueError(f"--{name} of a PDF is at most {most:,}; the page takes more")
        return self

    @property
    def kind(self) -> Format:
        """The format, by the ending of the file where none is given."""
        return self.format or ("pdf" if self.out.lower().endswith(".pdf") else "html")

    @property
    def drawn(self) -> int:
        """How many images have a picture."""
        return PICTURES[self.kind] if self.pictures is None else self.pictures
