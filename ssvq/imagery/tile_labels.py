"""Labels that people gave to scored tiles: the table that `ssvq label` writes, and its tiles as images to train on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa

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
    ]
)
"""A row a tile. fingerprint: of the image that was scored. x, y, width, height: pixels of the stored raster."""
PLACE = ("image_uri", "x", "y", "width", "height")


def read_labels(address: str, setting: str) -> pa.Table:
    """A table of the schema LABELS.

    Raises FileNotFoundError, and InputError, naming the setting, for a file that is no such table.
    """
    try:
        table = parquet.read(address)
    except FileNotFoundError:
        raise
    except storage.StorageError as error:
        raise InputError(f"{setting} {address} cannot be read: {error}") from None
    except DamagedError as error:
        raise InputError(f"{setting} {address} is no Parquet file: {error}") from None
    missing = [name for name in LABELS.names if name not in table.column_names]
    if missing:
        raise InputError(f"{setting} {address} has no column {missing[0]}: give a table that `ssvq label` wrote")
    unknown = sorted({str(value) for value in table["label"].to_pylist()} - {NORMAL, ANOMALOUS})
    if unknown:
        raise InputError(f"{setting} {address} has the label {unknown[0]!r}; allowed: {NORMAL}, {ANOMALOUS}")
    try:
        return table.select(LABELS.names).cast(LABELS)
    except pa.ArrowInvalid as error:
        raise InputError(f"{setting} {address} is no table that `ssvq label` wrote: {error}") from None


def add_labelled_tiles(
    images: list[SourceImage], address: str, tile_size: int | None, drivers: Sequence[str] | None
) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    """Images, and after them the labelled tiles of a table as further images, which are windows of theirs; and the
    tiles whose image is gone or is not what was labelled.

    They train and nothing else: tiles that were chosen for how they scored would bend every figure. So does what
    shares an image with them, and its group. An anomalous tile of an image with a mask keeps the mask.

    Raises InputError when the table cannot be used, and when a tile is larger than `tile_size`, if that is not None.
    """
    try:
        rows = read_labels(address, "--labels").to_pylist()
    except FileNotFoundError:
        raise InputError(f"--labels {address} is not there; `ssvq label` makes it") from None
    if not rows:
        raise InputError(f"--labels {address} has no label")
    largest = max(max(row["width"], row["height"]) for row in rows)
    if tile_size is not None and largest > tile_size:
        raise InputError(f"--labels {address} is of tiles of {largest} px: train with --tile-size {largest}")
    labelled = {row["image_uri"] for row in rows}
    grouped = [replace(image, group=image.group or image.uri) if image.uri in labelled else image for image in images]
    known = {image.uri: image for image in grouped}
    with ThreadPoolExecutor(STAT_THREADS) as threads:
        versions = dict(zip(labelled, threads.map(_version, labelled), strict=True))
    tiles: list[SourceImage] = []
    unusable: list[tuple[SourceImage, ImageError]] = []
    for row in rows:
        tile = _tile(row, known.get(row["image_uri"]), tuple(drivers or ()))
        version = versions[row["image_uri"]]
        if version is None:
            unusable.append((tile, ImageError("read", "was labelled, and its image is not there")))
        elif version != row["fingerprint"]:
            unusable.append((tile, ImageError("read", "was labelled, and its image has changed since")))
        else:
            tiles.append(tile)
    return [*grouped, *tiles], unusable


def _tile(row: dict[str, Any], image: SourceImage | None, drivers: tuple[str, ...]) -> SourceImage:
    """The image that a row's tile is. Its fingerprint is that of what it was cut from, mask and all."""
    x, y, width, height = (row[name] for name in PLACE[1:])
    normal = row["label"] == NORMAL
    return SourceImage(
        uri=row["image_uri"],
        path=f"{row['image_uri'] if image is None else image.path} at {x},{y}, {width}x{height}",
        fingerprint=row["fingerprint"] if image is None or normal else image.fingerprint,
        size=0,
        mask=None if image is None or normal else image.mask,
        label=NORMAL_LABEL if normal else ANOMALOUS,
        group=row["image_uri"] if image is None else image.group,
        split=SPLITS[0],
        drivers=drivers,
        window=(x, y, width, height),
    )


def _version(uri: str) -> str | None:
    try:
        return storage.stat(uri).version
    except FileNotFoundError:
        return None
