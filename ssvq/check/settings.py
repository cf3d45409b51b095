"""Settings of the command that looks at images before a training or a scoring does."""

from typing import ClassVar

from pydantic import Field

from ssvq.imagery.settings import StoredPixels
from ssvq.settings import Location, Output


class CheckConfig(StoredPixels):
    """Look at images and labels before a training or a scoring does, and make one self-contained HTML page of it."""

    layouts: ClassVar[tuple[str, ...]] = ("images", "mvtec", "manifest", "survey")

    survey: Location | None = None
    """Folder or s3:// prefix of images without labels, as `ssvq score --survey` takes it."""

    out: Output = Field("check.html", validate_default=True)
    """HTML file to write, local or s3://."""

    pictures: int = Field(120, ge=0, le=2000)
    """Images with a picture on the page, some of each class."""
