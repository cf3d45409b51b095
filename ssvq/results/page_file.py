"""The file that a page of `ssvq report` saves: labels of tiles, and decisions on findings."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import shapely
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from shapely.geometry.base import BaseGeometry

from ssvq.errors import InputError, one_line, reason_of
from ssvq.io import storage
from ssvq.results.findings.decisions import State
from ssvq.results.settings import TileLabel

CLOCKS_DIFFER = timedelta(days=1)  # at most; a decision from the future would win over all later ones
LONGEST_NOTE = 2000


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), arbitrary_types_allowed=True)


class Mark(_Part):
    """A tile that a person marked."""

    tile_id: str
    label: TileLabel


def _region(text: object) -> BaseGeometry:
    """A region from WKT. Raises ValueError if it is not a valid area."""
    try:
        region = shapely.from_wkt(text)
    except (shapely.errors.ShapelyError, TypeError):
        raise ValueError("is no WKT") from None
    if not isinstance(region, shapely.Polygon | shapely.MultiPolygon) or not region.is_valid or not region.area > 0:
        raise ValueError("is not a valid polygon")
    return region


class PageDecision(_Part):
    """A person's decision about a finding. It holds the region, so that it can be taken after the table of findings was
    made again.
    """

    finding_id: str = Field(min_length=1, max_length=64)
    image_id: str = Field(min_length=1)
    fingerprint: str
    state: State
    decided_by: str | None = Field(None, max_length=200)
    decided_at: AwareDatetime
    note: str | None = Field(None, max_length=LONGEST_NOTE)
    outline: Annotated[BaseGeometry, BeforeValidator(_region)]
    """WKT in pixels of the stored raster."""

    @field_validator("decided_at")
    @classmethod
    def _is_past(cls, when: datetime) -> datetime:
        if when > datetime.now(UTC) + CLOCKS_DIFFER:
            raise ValueError("is in the future: check the clock of the machine that showed the page")
        return when.astimezone(UTC)

    @field_validator("decided_by", "note")
    @classmethod
    def _is_one_line(cls, text: str | None) -> str | None:
        return one_line(" ".join(text.split())) or None if text else None


class PageFile(_Part):
    """The file that the page saves."""

    survey: str
    model_id: str
    tiling_id: str
    labels: list[Mark] = []
    decisions: list[PageDecision] = []


def read_page_file(address: str) -> PageFile:
    """Read the file at an address. Raises InputError, naming the setting `--from`, if it is missing or damaged."""
    data = read_setting(address, "--from")
    try:
        return PageFile.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"--from {address} was not saved by a report page: {where or 'it'}: {reason}; save it again"
        ) from None


def read_setting(address: str, setting: str) -> bytes:
    """The bytes at an address. Raises InputError, naming the setting, if they cannot be read."""
    try:
        return storage.read_bytes(address)
    except FileNotFoundError:
        raise InputError(f"{setting} {address} is not there") from None
    except storage.StorageError as error:
        raise InputError(f"{setting} {address} cannot be read: {reason_of(error)}") from None
