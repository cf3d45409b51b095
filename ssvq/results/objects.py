"""What lies in an output, read and written with an error in words for a person."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ssvq import storage
from ssvq.errors import InputError
from ssvq.results.damage import UNREADABLE, reason_of
from ssvq.scoring.layout import model_file


def read_model(scores: str, model_id: str) -> dict[str, Any]:
    """The copy of a model's description beside its score maps. Raises InputError when it is missing."""
    address = model_file(scores, model_id)
    try:
        described: dict[str, Any] = json.loads(storage.read_text(address))
    except FileNotFoundError:
        raise InputError(f"{address} is missing: copy the score maps whole") from None
    return described


def read_score_map(address: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A score map, or some of its columns. Raises InputError when it is missing or damaged, or storage fails."""
    try:
        data = storage.read_bytes(address)
    except FileNotFoundError:
        raise InputError(f"{address} is missing: run `ssvq score` again, or copy the score maps whole") from None
    except OSError as error:
        raise InputError(f"{address} cannot be read: {str(error).splitlines()[0]}") from None
    try:
        return pq.read_table(pa.BufferReader(data), columns=None if columns is None else list(dict.fromkeys(columns)))
    except UNREADABLE as error:
        reason = reason_of(error)
        raise InputError(f"{address} is damaged ({reason}): remove it and run `ssvq score` again") from None


def put_output(location: str, data: bytes, out: str) -> None:
    """Put an object for the setting --out. Raises InputError when it cannot be written."""
    try:
        storage.put(location, data)
    except storage.StorageError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None
