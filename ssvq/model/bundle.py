"""The bundle: all that scoring needs. `model.safetensors`, and a readable `bundle.json` that is written last.

A folder with a `bundle.json` is whole; one without is unfinished. Nothing in a bundle is ever unpickled.
"""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
import safetensors.torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ssvq import storage
from ssvq.errors import InputError
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule

FORMAT_VERSION = 2
DESCRIPTION = "bundle.json"
WEIGHTS = "model.safetensors"

# JSON has no NaN, so a figure that is not defined is written as null.
Figure = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Preprocessing(_Part):
    """From stored pixels to the network's input: 8-bit RGB by a rule, then (x / 255 - mean) / std by channel."""

    tile_size: int
    whole_images: bool = False
    pixels: PixelRule = AS_STORED
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def tiling(self) -> Tiling:
        """How images become the tiles that the model was trained on."""
        return Tiling(tile_size=self.tile_size, stride=self.tile_size, whole=self.whole_images)


class Calibration(_Part):
    """What scores mean, from calibration tiles: of images that neither the training nor the choice of the checkpoint
    saw.
    """

    threshold: float
    """Scores at or over it are anomalous."""

    rule: Literal["equal error rate", "5 % false positives"]
    """How the threshold was chosen; the second where no calibration tile is anomalous."""

    thresholds_at_false_positive_rate: dict[str, float]
    """Thresholds at given shares of false alarms among normal tiles."""

    normal_scores: list[float]
    """Scores of the normal calibration tiles, ascending."""

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-values (1 + k) / (n + 1), k of the n normal calibration tiles scoring at least as high."""
        normal = np.asarray(self.normal_scores)
        at_least = len(normal) - np.searchsorted(normal, np.asarray(scores), side="left")
        return (1 + at_least) / (len(normal) + 1)


class Bundle(_Part):
    """`bundle.json`."""

    format: Literal["ssvq-bundle"] = "ssvq-bundle"
    version: int = FORMAT_VERSION
    model_id: str
    method: str
    settings: dict[str, Any]
    """What the method is built from, such as architecture, objective, codebook."""

    preprocessing: Preprocessing
    weights_sha256: str
    calibration: Calibration
    metrics: dict[str, Figure]
    """Validation and calibration figures of these weights; NaN, in JSON null, where there is no anomalous tile."""

    training: dict[str, Any]
    """Resolved configuration, counts of tiles and images, data fingerprint."""

    created_at: datetime
    ssvq_version: str

    @property
    def anomalous_fraction(self) -> float:
        """Share of anomalous pixels from which a tile counted as anomalous in training."""
        return float(self.training["config"]["anomalous_fraction"])


def model_id(method: str, settings: dict[str, Any], preprocessing: Preprocessing, weights_sha256: str) -> str:
    """Identity of a model: 16 hex digits over weights, architecture and preprocessing; not calibration."""
    described = {
        "method": method,
        "architecture": settings.get("architecture"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "weights": weights_sha256,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def encode_weights(weights: dict[str, Tensor]) -> bytes:
    """Weights as safetensors."""
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in weights.items()})


def sha256(data: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def save_bundle(location: str, bundle: Bundle, weights: bytes) -> None:
    """Write weights, then description: a crash between leaves an unfinished bundle, never a wrong one."""
    storage.put(storage.join(location, WEIGHTS), weights)
    storage.put_text(storage.join(location, DESCRIPTION), bundle.model_dump_json(indent=2) + "\n")


def is_finished(location: str) -> bool:
    """Whether a finished bundle is there."""
    return storage.exists(storage.join(location, DESCRIPTION))


def read_description(location: str) -> Bundle:
    """The description of a bundle. Raises InputError when there is none, or one of another version."""
    address = storage.join(location, DESCRIPTION)
    try:
        values = json.loads(storage.read_text(address))
    except FileNotFoundError:
        raise InputError(
            f"--model {location} is not a finished bundle (no {DESCRIPTION}); give what `ssvq train --out` wrote"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{address} is not JSON; copy the bundle again or train anew") from None
    version = values.get("version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{address} has version {version}, this ssvq reads version {FORMAT_VERSION}; "
            "train again, or install the ssvq that wrote it"
        )
    try:
        return Bundle.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{address} is damaged: {field}: {first['msg']}; copy the bundle again") from None


def read_whole(location: str) -> Bundle:
    """The description of a bundle whose weights are there and sound: to know before any work is spread.

    Raises InputError as `read_description` and `read_weights` do.
    """
    bundle = read_description(location)
    read_weights(location, bundle)
    return bundle


def read_weights(location: str, bundle: Bundle) -> dict[str, Tensor]:
    """The weights of a bundle. Raises InputError when they are missing or not those of its description."""
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
