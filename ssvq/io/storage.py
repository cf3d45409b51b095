"""Objects on local disk and S3: open, list, stat, and the atomic put on which exactly-once relies."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ssvq.errors import InputError
from ssvq.io.location import (  # noqa: F401 - callers ask storage alone
    DEFAULT_TIMEOUT,
    TIMEOUT_VARIABLE,
    absolute,
    base_name,
    beside,
    filesystem,
    is_full,
    is_remote,
    join,
    local_path,
    longest_wait,
    set_timeout,
    timeout,
)
from ssvq.io.readahead import ReadAhead

# Errors of a storage that is missing, forbidden, full or unreachable: catch nothing broader.
StorageError = OSError


@dataclass(frozen=True)
class ObjectInfo:
    """A stored object: its path below the listed root, its size in bytes, and its version.

    `version` changes whenever the bytes do: size and mtime_ns locally, size and ETag on S3.
    """

    path: str
    size: int
    version: str


def exists(location: str) -> bool:
    """Whether an object or folder exists."""
    fs, path = filesystem(location)
    return bool(fs.exists(path))


def is_folder(location: str) -> bool:
    """Whether the location is a folder, or on S3 a prefix of objects."""
    fs, path = filesystem(location)
    return bool(fs.isdir(path))


def read_bytes(location: str) -> bytes:
    """The bytes of an object. Raises FileNotFoundError if it does not exist."""
    fs, path = filesystem(location)
    try:
        return cast(bytes, fs.cat_file(path))
    except NotADirectoryError as error:  # a part of the path is a file, so the object does not exist either
        raise FileNotFoundError(location) from error


def read_text(location: str) -> str:
    """The UTF-8 text of an object. Raises FileNotFoundError if it does not exist."""
    return read_bytes(location).decode("utf-8")


def open_read(location: str, *, ahead: bool = True) -> BinaryIO:
    """A seekable binary file over an object.

    On S3 reads fetch the requested ranges and some of what follows (see `readahead.py`); without `ahead`, each read is
    one request.
    """
    fs, path = filesystem(location)
    options = {} if ahead or not is_remote(location) else {"cache_type": "none"}
    return cast(BinaryIO, fs.open(path, "rb", **options))


def advise_sequential(file: BinaryIO) -> None:
    """Say that a file of `open_read` will be read from start to end: that takes few, large requests."""
    if isinstance(getattr(file, "cache", None), ReadAhead):
        file.cache.sequential = True  # type: ignore[attr-defined]


def read_ranges(file: BinaryIO, ranges: list[tuple[int, int]]) -> list[bytes]:
    """Ranges (offset, length) of a file of `open_read`; on S3 they are requested concurrently.

    Raises OSError, also if the file ends within a range.
    """
    if isinstance(getattr(file, "cache", None), ReadAhead):
        pieces = file.fs.read_ranges(file, ranges)  # type: ignore[attr-defined]
    else:
        pieces = []
        for offset, length in ranges:
            file.seek(offset)
            pieces.append(file.read(length))
    if [len(piece) for piece in pieces] != [length for _, length in ranges]:
        raise StorageError("the file ends within a range that was asked for")
    return cast(list[bytes], pieces)


def _version(details: dict[str, Any]) -> str:
    etag = details.get("ETag")
    if etag is not None:
        return f"{details['size']}-{etag.strip(chr(34))}"
    return f"{details['size']}-{details['mtime_ns']}"


def _local_info(path: Path, relative: str) -> ObjectInfo:
    status = path.stat()
    return ObjectInfo(relative, status.st_size, _version({"size": status.st_size, "mtime_ns": status.st_mtime_ns}))


def stat(location: str) -> ObjectInfo:
    """Current size and version of an object. Raises FileNotFoundError if it does not exist."""
    if not is_remote(location):
        return _local_info(Path(location), base_name(location))
    fs, path = filesystem(location)
    details = fs.info(path, refresh=True)
    if details["type"] != "file":
        raise FileNotFoundError(location)
    return ObjectInfo(base_name(location), int(details["size"]), _version(details))


def list_files(root: str, tell_link: Callable[[str, str], None] | None = None) -> Iterator[ObjectInfo]:
    """Every object below a folder or prefix, in order of its path; empty if the folder does not exist.

    Hidden files and folders (leading dot) are skipped, so no unfinished write is seen. Symbolic links are followed,
    except dead ones and those to folders that are walked anyway, as in a loop: `tell_link` is called with their path
    and the reason.
    """
    if is_remote(root):
        yield from _list_objects(root)
        return
    yield from _walk(Path(root), "", [Path(root).resolve()], tell_link or (lambda path, reason: None))


def _list_objects(root: str) -> Iterator[ObjectInfo]:
    """The objects below a prefix, page by page: a bucket may hold millions."""
    fs, path = filesystem(root)
    bucket, prefix, _ = fs.split_path(path)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = fs.call_s3("list_objects_v2", **request)
        for found in page.get("Contents", ()):
            relative, size = found["Key"][len(prefix) :], found["Size"]
            hidden = any(part.startswith(".") for part in relative.split("/"))
            if relative and not hidden and not relative.endswith("/"):  # the entry of a folder
                yield ObjectInfo(relative, size, _version({"size": size, "ETag": found["ETag"]}))
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _walk(root: Path, folder: str, walked: list[Path], tell_link: Callable[[str, str], None]) -> Iterator[ObjectInfo]:
    """`walked`: the real folders that are walked whole, none within another."""
    try:
        entries = [entry for entry in os.scandir(root / folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    # With its slash a folder sorts among the files as it does on S3.
    for path in sorted(f"{folder}{entry.name}{'/' * _leads_to_folder(entry)}" for entry in entries):
        here = root / path
        if path.endswith("/"):
            if here.is_symlink():
                target = here.resolve()
                if any(target.is_relative_to(other) or other.is_relative_to(target) for other in walked):
                    tell_link(path.rstrip("/"), "is a link to a folder that is listed anyway")
                    continue
                walked.append(target)
            yield from _walk(root, path, walked, tell_link)
        elif here.is_file():
            yield _local_info(here, path)
        elif here.is_symlink():
            tell_link(path, "is a link to nothing")


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def put(location: str, data: bytes, *, staging: str | None = None) -> ObjectInfo:
    """Write an object atomically: a reader sees either all of it or what was there before.

    On S3 this is one PUT. Locally the bytes go to a hidden file, in `staging` (a folder of the same filesystem) or
    beside the target, are synced to disk, and are renamed into place. Raises OSError if the location cannot be written.
    """
    if is_remote(location):
        fs, path = filesystem(location)
        # Never in parts: completing an upload twice, after a lost answer, is an error. And the version is that
        # of these bytes, not of what another job may have put before a later look.
        bucket, key, _ = fs.split_path(path)
        answer = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data)
        return ObjectInfo(base_name(location), len(data), _version({"size": len(data), "ETag": answer["ETag"]}))
    target = Path(location)
    temporary_folder = Path(staging) if staging else target.parent
    temporary_folder.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_folder / f".{target.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        info = _local_info(temporary, target.name)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return info


def put_file(location: str, file: Path) -> None:
    """`put` of a local file, which may exceed memory and is removed afterwards.

    On S3 it is uploaded in parts, which become visible only when complete. Raises OSError if the location cannot be
    written.
    """
    if is_remote(location):
        fs, path = filesystem(location)
        fs.put_file(str(file), path)
        file.unlink()
        return
    target = Path(location)
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.replace(target)


def put_text(location: str, text: str) -> ObjectInfo:
    """`put` of UTF-8 text."""
    return put(location, text.encode("utf-8"))


def remove(location: str) -> None:
    """Remove an object, or a folder with all its content. A missing one is no error."""
    fs, path = filesystem(location)
    if is_remote(location):
        # One by one: S3's bulk delete needs Content-MD5 on older servers, which botocore no longer sends.
        for name in fs.find(path, refresh=True):
            fs.rm_file(name)
    elif fs.exists(path):
        fs.rm(path, recursive=True)


def check_writable(folder: str, setting: str) -> None:
    """Fail early, before hours of work, if an output folder cannot be written. Raises InputError naming the setting."""
    probe = join(folder, f".ssvq-write-test-{uuid.uuid4().hex}")
    try:
        put(probe, b"")
        remove(probe)
    except StorageError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{setting} {folder} cannot be written: {reason}") from None
