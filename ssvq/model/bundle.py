"""The bundle: everything that scoring needs. It holds `model.safetensors`, a model card, and a readable `bundle.json`,
written last.

A folder with a `bundle.json` is complete; one without is unfinished. Nothing in a bundle is ever unpickled.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError
from safetensors import SafetensorError

from ssvq.errors import InputError, one_line
from ssvq.io import storage
from ssvq.model.description import Bundle, Preprocessing

if TYPE_CHECKING:  # imported only to load weights: processes that read or write do without
    from torch import Tensor

READABLE_VERSIONS = (2, 3)  # a bundle of version 2 has the paper's encoder and decides by `score`
DESCRIPTION = "bundle.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"  # the name that the Hugging Face hub shows
MAX_DESCRIPTION = (
    64 * 2**20
)  # bytes; a score of the calibration has some 20, and JSON in memory takes ten times its size


def model_id(method: str, settings: dict[str, Any], preprocessing: Preprocessing, weights_sha256: str) -> str:
    """Identity of a model: 16 hex digits of a hash over weights, architecture and preprocessing, without
    calibration.
    """
    described = {
        "method": method,
        "architecture": settings.get("architecture"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "weights": weights_sha256,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def encode_weights(weights: "dict[str, Tensor]") -> bytes:
    """Weights as safetensors."""
    import safetensors.torch

    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in weights.items()})


def sha256(data: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def save_bundle(location: str, bundle: Bundle, weights: bytes, card: str | None = None) -> None:
    """Write weights, model card and then the description. A crash in between leaves an unfinished bundle, never a wrong
    one.

    Nothing reads the card.
    """
    storage.put(storage.join(location, WEIGHTS), weights)
    if card is not None:
        storage.put_text(storage.join(location, CARD), card)
    storage.put_text(storage.join(location, DESCRIPTION), bundle.model_dump_json(indent=2) + "\n")


def is_finished(location: str) -> bool:
    """Whether there is a finished bundle."""
    return storage.exists(storage.join(location, DESCRIPTION))


def read_description(location: str) -> Bundle:
    """The description of a bundle. Raises InputError if there is none, or if it has another version."""
    address = storage.join(location, DESCRIPTION)
    try:
        data = storage.read_bytes(address)
    except FileNotFoundError:
        raise InputError(
            f"--model {location} is not a finished bundle (no {DESCRIPTION}); give what `ssvq train --out` wrote"
        ) from None
    if len(data) > MAX_DESCRIPTION:
        raise InputError(f"{address} has {len(data):,} bytes, more than any description; copy the bundle again")
    try:
        values = json.loads(data.decode(), parse_constant=_refuse)
        json.dumps(values, ensure_ascii=False).encode()  # lone surrogates, which no output could hold
    except (ValueError, RecursionError):  # numbers with thousands of digits raise another ValueError
        raise InputError(f"{address} is not JSON; copy the bundle again or train anew") from None
    version = values.get("version") if isinstance(values, dict) else None
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise InputError(
            f"{address} has version {one_line(str(version)[:40])}, this ssvq reads versions {readable}; "
            "train again, or install the ssvq that wrote it"
        )
    try:
        return Bundle.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = one_line(".".join(str(part) for part in first["loc"])[:80])
        raise InputError(f"{address} is damaged: {field}: {first['msg']}; copy the bundle again") from None


def _refuse(constant: str) -> NoReturn:
    """Refuse NaN and infinity: JSON has neither, though Python reads them."""
    raise ValueError(constant)


def read_weights(location: str, bundle: Bundle) -> "dict[str, Tensor]":
    """The weights of a bundle. Raises InputError if they are missing or do not match its description."""
    import safetensors.torch

    address = storage.join(location, WEIGHTS)
    try:
        data = storage.read_bytes(address)
        if sha256(data) != bundle.weights_sha256:
            raise InputError(f"{address} does not belong to its {DESCRIPTION} (checksum); copy the bundle again")
        return safetensors.torch.load(data)
    except FileNotFoundError:
        raise InputError(f"{address} is missing; copy the bundle again") from None
    except SafetensorError as error:
        raise InputError(f"{address} cannot be read: {error}; copy the bundle again") from None
