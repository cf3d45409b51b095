"""Reads a file of a label tool, whichever tool wrote it."""

from typing import Any

from pydantic_core import from_json

from ssvq.errors import InputError, reason_of
from ssvq.imagery.annotations.coco import read_coco
from ssvq.imagery.annotations.content import Annotations, FormatError
from ssvq.imagery.annotations.cvat import read_cvat
from ssvq.imagery.annotations.label_studio import read_label_studio
from ssvq.io import storage

SUFFIXES = (".json", ".xml")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_annotations(address: str, setting: str) -> Annotations:
    """The annotations of a file. Its content shows which tool wrote it.

    Raises InputError, naming the setting, if the file is missing, damaged or of another kind.
    """
    try:
        data = storage.read_bytes(address).removeprefix(BYTE_ORDER_MARK)
    except FileNotFoundError:
        raise InputError(f"{setting} {address} is not there") from None
    except storage.StorageError as error:
        raise InputError(f"{setting} {address} cannot be read: {reason_of(error)}") from None
    try:
        found = _read(data)
    except FormatError as error:
        raise InputError(f"{setting} {address} {error}") from None
    if not found.images and not found.unlabelled:
        raise InputError(f"{setting} {address} names no image")
    return found


def _read(data: bytes) -> Annotations:
    start = data[:100].lstrip()
    if start.startswith(b"<"):
        return read_cvat(data)
    if start.startswith(b"PK\3\4"):
        raise FormatError("is an archive: unpack it, and give the file of annotations in it")
    try:
        content: Any = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise FormatError(f"is neither JSON nor XML, or is damaged: {reason_of(error)}") from None
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return read_coco(content)
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        if content and {"image_id", "category_id"} <= content[0].keys():
            raise FormatError("holds results of COCO, without images and categories: give its annotations")
        return read_label_studio(content)
    raise FormatError("is neither COCO nor Label Studio JSON: it has no `images` and `annotations`, and no tasks")
