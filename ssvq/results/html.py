"""What the HTML pages share. Each page is one file with its pictures inside, and loads nothing from a network."""

import base64
import io
from importlib import resources
from typing import Any, Literal

import jinja2
from PIL import Image

Kind = Literal["webp", "jpeg"]
"""Formats of pictures within a page."""


def page_template(name: str, filters: dict[str, Any]) -> jinja2.Template:
    """The template of a page. It and its includes are named as for `read_part`."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(read_part),
    )
    environment.filters |= filters
    return environment.get_template(name)


def read_part(name: str) -> str:
    """A file of a package, such as `ssvq.results.report/page.css`."""
    package, _, file = name.partition("/")
    return resources.files(package).joinpath(file).read_text(encoding="utf-8")


def encode_webp(picture: Image.Image, quality: int) -> bytes:
    """A picture as WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, alpha_quality=80, method=3)
    return buffer.getvalue()


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    """A picture without transparency as JPEG, which a PDF holds as it is."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def data_uri(encoded: bytes, kind: Kind = "webp") -> str:
    """A picture as an address within its page."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
