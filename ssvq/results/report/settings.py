"""Settings of the command that makes one page of a survey, or a document to print."""

from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from ssvq.settings import Command, Location, Output


class ReportConfig(Command):
    """Make one self-contained page of a survey to review its findings, or a PDF to hand over."""

    scores: CliPositionalArg[Location]
    """Folder or s3:// prefix that `ssvq score --out` wrote."""

    survey: str
    """Name of the survey in the output."""

    out: Output
    """HTML or PDF file to write, local or s3://."""

    format: Literal["html", "pdf"] = "html"
    """html: a page for review, with keys, filters and a threshold to move. pdf: a document for a client; it needs
    `pip install ssvq[pdf]` and the library Pango."""

    model_id: str | None = None
    """Model whose scores are shown (default: the one that scored last)."""

    pictures: int = Field(200, ge=0, le=2000)
    """Images with a thumbnail and an overlay on the page, those with the worst scores; the others have numbers only."""

    findings: int | None = Field(None, ge=0, le=20_000)
    """Findings that are listed with a crop, the worst ones; the others are counted (default: 1000 on the page, 100 in
    the PDF)."""

    paper: Literal["a4", "letter"] = "a4"
    """Paper of the PDF."""

    title: str = ""
    """Title of the PDF (default: Inspection report)."""

    author: str = ""
    """Who made the inspection, on the cover of the PDF."""

    @property
    def findings_listed(self) -> int:
        """How many findings are listed at most."""
        return self.findings if self.findings is not None else {"html": 1000, "pdf": 100}[self.format]

    @property
    def images_drawn(self) -> int:
        """How many images have a picture at most; a PDF has one, on its cover."""
        return self.pictures if self.format == "html" else min(1, self.pictures)
