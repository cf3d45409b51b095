"""The surveys under one root: each folder (or S3 prefix) directly below it is a survey with the folder's name."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from ssvq import logs
from ssvq.errors import InputError
from ssvq.imagery.catalog import is_image
from ssvq.imagery.drivers import OTHER_PICTURES, suffixes
from ssvq.io import storage


def find_surveys(root: str, patterns: Sequence[str] | None = None, newest: int | None = None) -> list[str]:
    """Names of the surveys that match one of the patterns, the last name first; at most `newest` of them.

    Folders with a leading dot or underscore do not count; links to folders do. A warning names images directly in the
    root, which belong to no survey.

    Raises InputError if there is no survey, or if the root cannot be listed.
    """
    fs, path = storage.filesystem(root)
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        entries = []
    except storage.StorageError as error:
        raise InputError(f"ROOT {root} cannot be listed: {error}") from None
    folders = [storage.base_name(entry["name"]) for entry in entries if _is_folder(entry)]
    files = [storage.base_name(entry["name"]) for entry in entries if not _is_folder(entry)]
    loose = sorted(name for name in files if PurePosixPath(name).suffix.lower() in (*suffixes(()), *OTHER_PICTURES))
    if loose:
        logs.warning(
            f"warning: pictures directly in ROOT {root} belong to no survey ({len(loose)}, such as {loose[0]}): "
            "move them into a folder"
        )
    names = sorted((name for name in folders if name[0] not in "._"), reverse=True)
    if not names:
        raise InputError(f"ROOT {root} holds no folder of images: give the folder (or s3:// prefix) above the surveys")
    chosen = [name for name in names if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise InputError(f"--surveys matches none of the {len(names)} folders of ROOT {root}")
    return chosen[:newest]


def _is_folder(entry: dict[str, Any]) -> bool:
    return entry["type"] == "directory" or ("destination" in entry and Path(entry["name"]).is_dir())


def holds_images(folder: str, drivers: Sequence[str] | None = None) -> bool:
    """Whether there is an image at any depth. Also true for a folder that cannot be listed: reading the survey will
    say why.
    """
    known = suffixes(tuple(drivers or ()))
    try:
        return any(is_image(folder, info.path, known) for info in storage.list_files(folder))
    except storage.StorageError:
        return True
