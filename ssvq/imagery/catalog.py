"""The catalogue of a survey: which images a folder or S3 prefix holds, each with identity and fingerprint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ssvq import storage
from ssvq.errors import InputError
from ssvq.imagery.drivers import suffixes

NORMAL_LABEL = "good"
"""The label of an image without an anomaly; MVTec AD's name for it."""


@dataclass(frozen=True)
class Mask:
    """Where the labels of an image's pixels are, and which of their values are anomalous (None: all but 0)."""

    uri: str
    anomalous_classes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SourceImage:
    """One image of a survey as its storage lists it; nothing of it has been read.

    `path` is relative to the survey's root. `fingerprint` changes when the file's content may have:
    size and mtime_ns locally, size and ETag on S3.

    Where labels are known: `mask`; `label` of the image as a whole, NORMAL_LABEL or the name of its defect; `group`,
    which images of one part share; and the `split` that it was given.

    `drivers`: GDAL drivers that a setting names, and that may open it and its mask where the usual ones do not.

    `window`: x, y, width and height of the part of the stored raster that this image is, where it is a part.
    """

    uri: str
    path: str
    fingerprint: str
    size: int
    mask: Mask | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    drivers: tuple[str, ...] = ()
    window: tuple[int, int, int, int] | None = None

    @property
    def origin(self) -> tuple[int, int]:
        """Where its first pixel is in the stored raster: x, y."""
        return (0, 0) if self.window is None else self.window[:2]

    @property
    def image_id(self) -> str:
        """Identity of the image within its survey: 20 hex digits (80 bits) of the path's SHA-256."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:20]


def list_images(root: str, setting: str, drivers: Sequence[str] | None = None) -> list[SourceImage]:
    """All images below a folder or prefix, by their suffix, in order of their paths.

    `drivers`: GDAL drivers that a setting names; the suffixes of their files count too.

    Raises InputError, naming the setting, when the folder is missing, cannot be listed or holds no image.
    """
    root = storage.absolute(root)
    named = tuple(drivers or ())
    known = suffixes(named)
    try:
        images = [
            SourceImage(storage.join(root, info.path), info.path, info.version, info.size, drivers=named)
            for info in storage.list_files(root)
            if PurePosixPath(info.path).suffix.lower() in known
        ]
        is_folder = bool(images) or storage.is_folder(root)
    except storage.StorageError as error:
        raise InputError(f"{setting} {root} cannot be listed: {error}") from None
    for image in images:
        if not _is_utf8(image.path):  # outputs, which name it, are UTF-8
            name = image.path.encode(errors="backslashreplace").decode()
            raise InputError(f"{setting} {root} holds a file whose name is not UTF-8; rename it: {name}")
    if images:
        return images
    if not is_folder:
        raise InputError(f"{setting} {root} is not a folder; give the folder (or s3:// prefix) that holds the images")
    raise InputError(f"{setting} {root} holds no image ({', '.join(known)})")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
