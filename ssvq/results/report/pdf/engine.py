"""WeasyPrint turns HTML into PDF. It is loaded only for a PDF, and opens no network address."""

import base64
import importlib
from pathlib import Path
from types import ModuleType

import matplotlib

from ssvq.errors import InputError
from ssvq.extras import require

PANGO = "libpango-1.0-0 libpangoft2-1.0-0"  # packages of Debian and Ubuntu
PURPOSE = "--format pdf"
FALLBACK = "ssvq fallback"
"""The font family that comes with matplotlib, for machines without fonts."""


def load_engine() -> ModuleType:
    """The module `weasyprint`. Raises InputError with what to install if it or Pango is missing."""
    require("pdf", "weasyprint", purpose=PURPOSE)
    try:
        return importlib.import_module("weasyprint")
    except OSError:  # cffi raises it for a library that it cannot open
        raise InputError(
            f"{PURPOSE} needs the library Pango: apt-get install {PANGO} (Debian, Ubuntu), brew install pango (macOS)"
        ) from None


def to_pdf(engine: ModuleType, html: str) -> bytes:
    """A document as PDF. The same text and fonts give the same bytes. Only data URIs are opened.

    `engine`: the module from `load_engine`.
    """
    fetcher = importlib.import_module("weasyprint.urls").URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    pdf: bytes = engine.HTML(string=html, url_fetcher=fetcher).write_pdf(pdf_tags=True)
    return pdf


def fallback_fonts() -> str:
    """CSS of the fallback font, regular and bold, with the font files embedded."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = []
    for name, weight in (("DejaVuSans", 400), ("DejaVuSans-Bold", 700)):
        data = base64.b64encode((folder / f"{name}.ttf").read_bytes()).decode()
        source = f'url("data:font/ttf;base64,{data}")'
        faces.append(f'@font-face {{ font-family: "{FALLBACK}"; font-weight: {weight}; src: {source}; }}')
    return "\n".join(faces)
