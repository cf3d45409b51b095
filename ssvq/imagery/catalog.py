"""The catalogue of a survey: the images in a folder or S3 prefix, each with identity and fingerprint."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ssvq import logs
from ssvq.errors import InputError
from ssvq.imagery.drawing import Drawing
from ssvq.imagery.drivers import LONGEST_SIGNATURE, OTHER_PICTURES, driver_of, suffixes
from ssvq.imagery.world_file import Beside, find_beside, with_companions
from ssvq.io import storage

NORMAL_LABEL = "good"
"""The label of an image without an anomaly; MVTec AD's name for it."""


@dataclass(frozen=True)
class Mask:
    """The labels of an image's pixels: a picture with its anomalous values (None: all but 0), or a file of a label
    tool with what is anomalous in its drawing over the image.
    """

    uri: str
    anomalous_classes: tuple[int, ...] | None = None
    drawing: Drawing | None = None


@dataclass(frozen=True)
class SourceImage:
    """An image as its storage lists it; nothing of it has been read.

    `path` is relative to the survey's root. `fingerprint` changes when the content may have changed: size and mtime_ns
    locally, size and ETag on S3, and the same for its mask and the files beside it.

    Labels, if known: `mask`; `label` of the whole image, NORMAL_LABEL or the name of its defect; `group`, shared by
    images of one part; and a given `split`.

    `drivers`: GDAL drivers named by a setting, which may open it and its mask if the usual ones do not. `beside`: files
    that give its position, if any. `window`: x, y, width and height within the stored raster, if the image is a part of
    it. `region`: the part that its label is about, as WKT in pixels of the stored raster; the rest is unknown.
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
    region: str | None = None
    beside: Beside | None = None

    @property
    def version(self) -> str:
        """The version of the file itself: the fingerprint without those of its mask and the files beside it."""
        return self.fingerprint.split("+")[0]

    @property
    def origin(self) -> tuple[int, int]:
        """Position of its first pixel in the stored raster: x, y."""
        return (0, 0) if self.window is None else self.window[:2]

    @property
    def image_id(self) -> str:
        """Identity of the image within its survey: 20 hex digits (80 bits) of the path's SHA-256."""
        return _image_id(self.path)


def _image_id(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class PassedOver:
    """A file that a person would call a picture, but that is not read: its `kind`, and `advice`."""

    path: str
    kind: str
    advice: str
    size: int = 0
    fingerprint: str = ""

    @property
    def image_id(self) -> str:
        """As for an image that is read."""
        return _image_id(self.path)

    @property
    def reason(self) -> str:
        """Why it is not read, for the ledger and the record of the run."""
        return f"{self.kind}: {self.advice}"


def list_images(root: str, setting: str, drivers: Sequence[str] | None = None) -> list[SourceImage]:
    """All images below a folder or prefix, in order of their paths; see `iter_images`.

    Raises InputError, naming the setting, if the folder is missing, cannot be listed or holds no image.
    """
    return list(iter_images(root, setting, drivers))


def iter_images(
    root: str, setting: str, drivers: Sequence[str] | None = None, passed_over: list[PassedOver] | None = None
) -> Iterator[SourceImage]:
    """The images below a folder or prefix, as they are listed: by suffix, and without a suffix by their first bytes.

    `drivers`: GDAL drivers named by a setting; the suffixes of their files count too. `passed_over`: collects pictures
    that are not read; a warning at the end counts them.

    Raises InputError, naming the setting, if the folder is missing, cannot be listed or holds no image, and for a name
    that is not UTF-8.
    """
    root = storage.absolute(root)
    named = tuple(drivers or ())
    known = suffixes(named)
    found = False
    others = [] if passed_over is None else passed_over
    before = len(others)
    try:
        files = storage.list_files(root, lambda path, what: others.append(PassedOver(path, "link", what)))
        for info, companions in with_companions(files):
            suffix = PurePosixPath(info.path).suffix.lower()
            if not is_image(root, info.path, known):
                if suffix in OTHER_PICTURES:
                    others.append(PassedOver(info.path, suffix, OTHER_PICTURES[suffix], info.size, info.version))
                continue
            if not _is_utf8(info.path):  # outputs, which name it, are UTF-8
                name = info.path.encode(errors="backslashreplace").decode()
                raise InputError(f"{setting} {root} holds a file whose name is not UTF-8; rename it: {name}")
            found = True
            beside, versions = find_beside(root, info, companions)
            fingerprint = f"{info.version}{versions}"
            yield SourceImage(
                storage.join(root, info.path), info.path, fingerprint, info.size, drivers=named, beside=beside
            )
        is_folder = found or storage.is_folder(root)
    except storage.StorageError as error:
        raise InputError(f"{setting} {root} cannot be listed: {error}") from None
    if others[before:]:
        logs.warning(f"warning: {setting} {root}: {tell_passed_over(others[before:])}")
    if not is_folder:
        raise InputError(f"{setting} {root} is not a folder; give the folder (or s3:// prefix) that holds the images")
    if not found:
        raise InputError(f"{setting} {root} holds no image ({', '.join(known)})")


def tell_passed_over(others: Sequence[PassedOver]) -> str:
    """How many of which kind, what to do, and an example of each."""
    kinds: dict[tuple[str, str], list[PassedOver]] = {}
    for other in others:
        kinds.setdefault((other.kind, other.advice), []).append(other)
    told = (f"{len(of_kind)} {kind} ({advice}), such as {of_kind[0].path}" for (kind, advice), of_kind in kinds.items())
    number = "1 picture is" if len(others) == 1 else f"{len(others)} pictures are"
    return f"{number} passed over: {'; '.join(sorted(told))}"


def is_image(root: str, path: str, known: Sequence[str]) -> bool:
    """Whether to read a file, by its suffix, or without a suffix by its first bytes.

    A file without a suffix that cannot be read is no image, and no error.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix:
        return suffix in known
    try:
        with storage.open_read(storage.join(root, path), ahead=False) as file:
            return driver_of(file.read(LONGEST_SIGNATURE)) is not None
    except storage.StorageError:
        return False


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
