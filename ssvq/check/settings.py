"""Settings of `ssvq check`."""

from typing import ClassVar

from pydantic import Field

from ssvq.imagery.settings import StoredPixels
from ssvq.settings import Location, Output


class CheckConfig(StoredPixels):
    """Look at images and labels before a training or a scoring, and write one self-contained HTML page."""

    layouts: ClassVar[tuple[str, ...]] = ("images", "mvtec", "manifest", "survey")

    survey: Location | None = None
    """Folder or s3:// prefix of images without labels, as `ssvq score --survey` takes it."""

    out: Output = Field("check.html", validate_default=True)
    """HTML file to write, local or s3://."""

    pictures: int = Field(120, ge=0, le=2000)
    """Number of images with a picture on the page, some of each class."""
