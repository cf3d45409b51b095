"""Renders a report as a PDF, the document for a client.

It has the figures of the page, and no controls: a cover, a summary, a map, findings with close-ups, failed images, and
what the model is and is not for.
"""

import base64
import importlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from PIL import Image
from pydantic import ValidationError

import ssvq
from ssvq.errors import InputError, one_line
from ssvq.model.card import USES, ModelCard, describe, estimate, percent
from ssvq.model.description import Bundle
from ssvq.results.html import page_template, read_part
from ssvq.results.report.crops import Crop
from ssvq.results.report.data import ReportData
from ssvq.results.report.figures import FILTERS, legend_colours, summarise
from ssvq.results.report.findings import ReportFindings
from ssvq.results.report.ground_map import draw_map
from ssvq.results.report.pictures import Picture
from ssvq.scores.findings import Finding

JPEG_QUALITY = 85
COVER_SIDE = 1200  # pixels of the picture on the cover, 180 mm wide
IMAGES_LISTED = 100
INSTALL = "it needs WeasyPrint (`pip install ssvq[pdf]`) and Pango (Debian: `apt install libpangoft2-1.0-0`)"


@dataclass(frozen=True)
class Cover:
    """What a person chooses: `paper` is `a4` or `letter`; title and author may be empty."""

    paper: str
    title: str
    author: str


@dataclass(frozen=True)
class PrintedFinding:
    """A finding of the list: `row`, its close-up, and the picture as JPEG in a data URI."""

    number: int
    row: Finding
    crop: Crop
    picture: str


def check_installed() -> None:
    """Raises InputError if no PDF can be made. Call it before pictures are drawn."""
    try:
        importlib.import_module("weasyprint")
    except (ImportError, OSError) as error:  # OSError: a library of the system, such as Pango
        raise InputError(f"--format pdf: {INSTALL}: {one_line(str(error))[:120]}") from None


def render_document(
    data: ReportData, pictures: Sequence[Picture], findings: ReportFindings | None, cover: Cover
) -> bytes:
    """The document as PDF. `pictures`: of the first images; the first one is on the cover.

    Raises InputError if WeasyPrint is not installed.
    """
    check_installed()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    threshold = None if data.bins is None else data.bins.threshold
    listed = [] if findings is None else list(_printed(findings))
    times = [row.recorded_at for row in (*data.images, *data.failures) if row.recorded_at is not None]
    taken = [image.captured_at for image in data.images if image.captured_at is not None]
    filters = FILTERS | {"estimate": estimate, "tiles": percent, "code": _as_code}
    html = page_template("ssvq.results.report/document.html", filters).render(
        css=Markup(_style(cover.paper)),
        cover=cover,
        data=data,
        picture=_cover_picture(pictures),
        summary=summarise(data),
        findings=findings,
        counts=None if findings is None else _count(findings),
        listed=listed,
        threshold=threshold,
        ground=draw_map([image.on_map for image in data.images], data.tiles_on_map, threshold),
        legend=None if threshold is None else legend_colours(threshold),
        card=_card(data.model),
        uses=USES,
        images_listed=IMAGES_LISTED,
        names=[image.image_uri.rsplit("/", 1)[-1] for image in data.images],
        taken=(min(taken), max(taken)) if taken else None,
        scored=(min(times), max(times)) if times else None,
        version=ssvq.__version__,
        made=datetime.now(UTC),
    )
    only_data = URLFetcher(allowed_protocols=("data",))  # nothing is fetched, whatever a name in the data contains
    document: bytes = HTML(string=html, url_fetcher=only_data).write_pdf(pdf_tags=True)
    return document


def _printed(findings: ReportFindings) -> Iterator[PrintedFinding]:
    """The listed findings, without those that a person rejected. Numbers count the rejected ones too, as on the
    page.
    """
    for number, (row, crop) in enumerate(findings.listed, start=1):
        if row.state != "rejected":
            yield PrintedFinding(number, row, crop, "" if crop.problem else _jpeg(_open(crop.picture)))


def _count(findings: ReportFindings) -> dict[str, Any]:
    """Findings by severity, state and change, and their known area, without rejected findings."""
    kept = [row for row in findings.rows if row.state != "rejected"]
    areas = [row.area_m2 for row in kept if row.area_m2 is not None]
    severities = []
    for name in findings.severities:
        of_this = [row for row in kept if row.severity == name]
        known = [row.area_m2 for row in of_this if row.area_m2 is not None]
        severities.append(
            (name, len(of_this), len({row.image_id for row in of_this}), sum(known) if known else None, len(known))
        )
    return {
        "kept": len(kept),
        "rejected": len(findings.rows) - len(kept),
        "images": len({row.image_id for row in kept}),
        "severities": severities,
        "states": Counter(row.state for row in kept),
        "changes": Counter(row.change for row in kept if row.change),
        "previous": next((row.previous_survey for row in kept if row.previous_survey), None),
        "area": sum(areas) if areas else None,
        "of_unknown_area": len(kept) - len(areas),
        "is_estimate": any(row.area_from == "camera" for row in kept),
    }


def _card(model: dict[str, Any]) -> ModelCard | None:
    """The card of a model, from its description beside the score maps; None if that is incomplete."""
    try:
        return describe(Bundle.model_validate(model))
    except ValidationError:
        return None


def _cover_picture(pictures: Sequence[Picture]) -> str:
    """The image with the worst score under its heat, as JPEG in a data URI; empty without a picture."""
    if not pictures or pictures[0].problem is not None:
        return ""
    worst = pictures[0]
    photograph = _open(worst.preview).convert("RGBA")
    if worst.heat:
        size = round(worst.heat_width * photograph.width), round(worst.heat_height * photograph.height)
        heat = _open(worst.heat).convert("RGBA").resize((max(1, size[0]), max(1, size[1])), Image.Resampling.BILINEAR)
        photograph.alpha_composite(heat.crop((0, 0, *photograph.size)))
    photograph.thumbnail((COVER_SIDE, COVER_SIDE), Image.Resampling.LANCZOS)
    return _jpeg(photograph)


def _open(uri: str) -> Image.Image:
    """The picture of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def _jpeg(picture: Image.Image) -> str:
    """A picture as JPEG in a data URI. A PDF embeds JPEG as it is, and stores other formats without photo
    compression.
    """
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _as_code(sentence: str) -> Markup:
    """A sentence of a model card with its `commands` as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


@cache
def _style(paper: str) -> str:
    """The style sheet. Its font comes with matplotlib, so that a machine without fonts makes the same document."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = []
    for file, weight in (("DejaVuSans.ttf", "normal"), ("DejaVuSans-Bold.ttf", "bold")):
        font = base64.b64encode((folder / file).read_bytes()).decode()
        faces.append(
            f"@font-face {{ font-family: 'Report'; font-weight: {weight}; src: url(data:font/ttf;base64,{font}) }}"
        )
    return "\n".join([*faces, f"@page {{ size: {paper} }}", read_part("ssvq.results.report/document.css")])
