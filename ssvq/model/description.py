"""The typed content of `bundle.json`. It is also read beside score maps, without torch and without weights."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, field_validator, model_validator

from ssvq.imagery.grid import CELL, Tiling
from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.model.calibration import BundlePart, Calibration

FORMAT_VERSION = 3
MAX_TILE_SIZE = 4096

# JSON has no NaN: an undefined figure is written as null.
Figure = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]

Deviation = Annotated[FiniteFloat, Field(gt=0)]


class Preprocessing(BundlePart):
    """From stored pixels to the network's input: 8-bit RGB by a rule, then (x / 255 - mean) / std by channel."""

    tile_size: int = Field(gt=0, le=MAX_TILE_SIZE)
    whole_images: bool = False
    cell: int = Field(CELL, gt=0, le=MAX_TILE_SIZE)
    """Side of a latent cell in pixels; a tile's side is a multiple of it."""

    pixels: PixelRule = AS_STORED
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[Deviation, Deviation, Deviation]

    @model_validator(mode="after")
    def _has_whole_cells(self) -> "Preprocessing":
        if self.tile_size % self.cell:
            raise ValueError(f"a tile size of {self.tile_size} is not a multiple of the cell of {self.cell}")
        return self

    @property
    def tiling(self) -> Tiling:
        """How images become tiles."""
        return Tiling(tile_size=self.tile_size, stride=self.tile_size, whole=self.whole_images)


class Backbone(BundlePart):
    """A pretrained network, and the origin of its weights."""

    name: str
    """Its name in timm."""

    source: str
    sha256: str
    """SHA-256 of the file with the weights."""

    licence: str


class Bundle(BundlePart):
    """`bundle.json`."""

    format: Literal["ssvq-bundle"] = "ssvq-bundle"
    version: int = FORMAT_VERSION
    model_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    """As made by `model_id`; it names folders and files."""
    method: str
    settings: dict[str, dict[str, Any]]
    """The settings that build the method, such as architecture, objective, codebook."""

    preprocessing: Preprocessing
    weights_sha256: str
    backbone: Backbone | None = None
    """The pretrained network within the weights; None for the paper's encoder."""

    calibration: Calibration
    metrics: dict[str, Figure]
    """Validation and calibration figures of these weights; NaN, in JSON null, without an anomalous tile."""

    training: dict[str, Any]
    """Resolved settings, counts of tiles and images, data fingerprint."""

    created_at: datetime
    ssvq_version: str

    @field_validator("training")
    @classmethod
    def _fraction_is_known(cls, training: dict[str, Any]) -> dict[str, Any]:
        config = training.get("config")
        fraction = config.get("anomalous_fraction") if isinstance(config, dict) else None
        if not isinstance(fraction, int | float):
            raise ValueError("config.anomalous_fraction is missing")
        return training

    @property
    def anomalous_fraction(self) -> float:
        """Share of anomalous pixels from which a tile counted as anomalous in training."""
        return float(self.training["config"]["anomalous_fraction"])
