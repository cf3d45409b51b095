"""Labels that people gave to scored tiles: the table of `ssvq label`, and its tiles as training images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import shapely

from ssvq.errors import ImageError, InputError
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.manifest import SPLITS, STAT_THREADS
from ssvq.io import parquet, storage
from ssvq.io.parquet import DamagedError

NORMAL, ANOMALOUS = "normal", "anomalous"

LABELS = pa.schema(
    [
        ("image_uri", pa.string()),
        ("fingerprint", pa.string()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        ("who", pa.string()),
        ("when", pa.timestamp("us", tz="UTC")),
        ("outline", pa.binary()),
    ]
)
"""A row for each labelled tile. fingerprint: of the scored image. x, y, width, height: pixels of the stored raster.
outline: the part of the tile that has the label, WKB in pixels of the stored raster, the rest being unknown; null if
the label is about the whole tile.
"""
SAID = ("fingerprint", "label", "who", "when", "outline")  # columns beside those of the place
ADDED = "outline"  # columns that tables of version 0.1 lack


class TilePlace(NamedTuple):
    """The image of a tile, and its window there in pixels of the stored raster. No two tiles have the same."""

    image_uri: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class LabelRow:
    """A row of LABELS."""

    place: TilePlace
    fingerprint: str
    label: str
    who: str
    when: datetime
    outline: bytes | None = None


def to_table(labels: Sequence[LabelRow]) -> pa.Table:
    """A table of the schema LABELS."""
    rows = [label.place._asdict() | {name: getattr(label, name) for name in SAID} for label in labels]
    return pa.Table.from_pylist(rows, LABELS)


def from_table(table: pa.Table) -> list[LabelRow]:
    """The labels in a table of the schema LABELS."""
    return [
        LabelRow(TilePlace(*(row[name] for name in TilePlace._fields)), **{name: row[name] for name in SAID})
        for row in table.to_pylist()
    ]


def read_labels(address: str, setting: str) -> pa.Table:
    """A table of the schema LABELS. Raises FileNotFoundError, and InputError, naming the setting, for any other
    file.
    """
    try:
        table = parquet.read(address)
    except FileNotFoundError:
        raise
    except storage.StorageError as error:
        raise InputError(f"{setting} {address} cannot be read: {error}") from None
    except DamagedError as error:
        raise InputError(f"{setting} {address} is not a Parquet file: {error}") from None
    if ADDED not in table.column_names:
        table = table.append_column(ADDED, pa.nulls(len(table), pa.binary()))
    missing = [name for name in LABELS.names if name not in table.column_names]
    if missing:
        raise InputError(f"{setting} {address} has no column {missing[0]}: give a table that `ssvq label` wrote")
    unknown = sorted({str(value) for value in table["label"].to_pylist()} - {NORMAL, ANOMALOUS})
    if unknown:
        raise InputError(f"{setting} {address} has the label {unknown[0]!r}; allowed: {NORMAL}, {ANOMALOUS}")
    try:
        return table.select(LABELS.names).cast(LABELS)
    except pa.ArrowInvalid as error:
        raise InputError(f"{setting} {address} was not written by `ssvq label`: {error}") from None


def add_labelled_tiles(
    images: list[SourceImage], address: str, tile_size: int | None, drivers: Sequence[str] | None
) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    """Images, followed by the labelled tiles of a table as further images, which are windows; and tiles whose image is
    gone or has changed.

    Labelled tiles are used for training only: tiles chosen for their scores would bias every figure. The same holds for
    other tiles of their image, and for its group. An anomalous tile of an image with a mask keeps the mask. A label
    with an outline is only about that part of the tile.

    Raises InputError if the table cannot be used, and if a tile is larger than `tile_size`, unless that is None.
    """
    try:
        rows = from_table(read_labels(address, "--labels"))
    except FileNotFoundError:
        raise InputError(f"--labels {address} does not exist; `ssvq label` makes it") from None
    if not rows:
        raise InputError(f"--labels {address} has no label")
    largest = max(max(row.place.width, row.place.height) for row in rows)
    if tile_size is not None and largest > tile_size:
        raise InputError(f"--labels {address} has tiles of {largest} px: train with --tile-size {largest}")
    labelled = {row.place.image_uri for row in rows}
    grouped = [replace(image, group=image.group or image.uri) if image.uri in labelled else image for image in images]
    known = {image.uri: image for image in grouped}
    with ThreadPoolExecutor(STAT_THREADS) as threads:
        versions = dict(zip(labelled, threads.map(_version, labelled), strict=True))
    tiles: list[SourceImage] = []
    unusable: list[tuple[SourceImage, ImageError]] = []
    for row in rows:
        tile = _tile(row, known.get(row.place.image_uri), tuple(drivers or ()))
        version = versions[row.place.image_uri]
        if version is None:
            unusable.append((tile, ImageError("read", "was labelled, but its image does not exist")))
        elif version != row.fingerprint:
            unusable.append((tile, ImageError("read", "was labelled, but its image has changed since")))
        else:
            tiles.append(tile)
    return [*grouped, *tiles], unusable


def _tile(row: LabelRow, image: SourceImage | None, drivers: tuple[str, ...]) -> SourceImage:
    """The image for the tile of a row. Its fingerprint covers what it was cut from, with its mask."""
    uri, x, y, width, height = row.place
    normal = row.label == NORMAL
    region = None if row.outline is None else shapely.to_wkt(shapely.from_wkb(row.outline), trim=True)
    masked = image is not None and not normal and region is None
    part = "" if region is None else f", {row.label} part"
    return SourceImage(
        uri=uri,
        path=f"{uri if image is None else image.path} at {x},{y}, {width}x{height}{part}",
        fingerprint=image.fingerprint if image is not None and masked else row.fingerprint,
        size=0,
        mask=image.mask if image is not None and masked else None,
        label=NORMAL_LABEL if normal else ANOMALOUS,
        group=uri if image is None else image.group,
        split=SPLITS[0],
        drivers=drivers,
        window=(x, y, width, height),
        region=region,
    )


def _version(uri: str) -> str | None:
    try:
        return storage.stat(uri).version
    except FileNotFoundError:
        return None
