"""Locations: local paths and `s3:

bucket/key` addresses, and the filesystem of each.

Endpoint and credentials come from the usual AWS variables (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...) or the
machine's role; they are never stored here. Requests to S3 are retried until they succeed or `timeout()` is over (see
`s3.py`).
"""

import os
from functools import cache
from pathlib import Path, PurePosixPath

import fsspec
from fsspec import AbstractFileSystem

from ssvq.errors import InputError

TIMEOUT_VARIABLE = "SSVQ_STORAGE_TIMEOUT"

DEFAULT_TIMEOUT = 600.0  # seconds

fsspec.register_implementation("s3", "ssvq.io.s3.PatientS3FileSystem", clobber=True)  # imported when it is needed


def is_remote(location: str) -> bool:
    """Whether a location is an address (`s3://...`) rather than a local path."""
    return "://" in location


def absolute(location: str | os.PathLike[str]) -> str:
    """The one form in which a location is stored: no trailing slash, local paths absolute and normalised."""
    text = os.fspath(location)
    return text.rstrip("/") if is_remote(text) else os.path.normpath(Path(text).expanduser().absolute())


def is_full(location: str) -> bool:
    """Whether a location is complete, independent of a process's working folder."""
    return is_remote(location) or Path(location).expanduser().is_absolute()


def beside(folder: str, path: str) -> str:
    """A path written in a file of a folder, as a location: below the folder, unless it is an address or absolute."""
    if is_remote(path) or Path(path).is_absolute():
        return absolute(path)
    joined = join(folder, path)
    return joined if is_remote(joined) else absolute(joined)


def local_path(location: str) -> str | None:
    """The path of a location on a local disk; None on S3."""
    return None if is_remote(location) else location


def longest_wait(location: str) -> float:
    """Seconds that a request may wait for the storage of a location to come back: none for a local one."""
    return timeout() if is_remote(location) else 0.0


def join(root: str, *parts: str) -> str:
    """Join path parts below a location."""
    return "/".join([root.rstrip("/"), *parts])


def base_name(location: str) -> str:
    """The last part of a location."""
    return PurePosixPath(absolute(location)).name


def timeout() -> float:
    """Seconds for which a request to S3 is retried after errors that may pass.

    Raises InputError if the environment's `SSVQ_STORAGE_TIMEOUT` is not a positive number.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, str(DEFAULT_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{TIMEOUT_VARIABLE}={text}: must be a number of seconds over 0")
    return seconds


def set_timeout(seconds: float) -> None:
    """Set `timeout` for this process and its children, through the environment. Raises InputError if it is not a
    positive number.
    """
    os.environ[TIMEOUT_VARIABLE] = f"{seconds:g}"
    timeout()


@cache
def _s3(seconds: float) -> AbstractFileSystem:
    return fsspec.filesystem("s3", storage_timeout=seconds)


def _remote_filesystem(protocol: str) -> AbstractFileSystem:
    # fsspec knows many more. A list of images from elsewhere must not make this machine contact arbitrary servers.
    if protocol != "s3":
        raise InputError(f"{protocol}:// is not a supported address; use s3:// or a local path")
    return _s3(timeout())


def filesystem(location: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec filesystem of a location, and the location's path in it."""
    if is_remote(location):
        protocol, path = location.split("://", 1)
        return _remote_filesystem(protocol), path
    return fsspec.filesystem("file"), location
