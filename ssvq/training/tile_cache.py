"""The tile cache: labelled tiles cut once, kept as Parquet in small row groups for random access.

    CACHE/<key>/<image_id>-<part>.parquet   pixels and mask of the tiles of one part of an image
    CACHE/<key>/index.parquet               written last: one row a tile, or one for an image that failed

The key is made of the sources' fingerprints, the mask classes, the tiling and the pixel rule, so
changed images are cut anew; a cache without its index is unfinished and is cut again.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ssvq import storage
from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.colour import redness
from ssvq.imagery.grid import Tiling
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart

INDEX = "index.parquet"
ROW_GROUP_BYTES = 2**19  # of pixels: as little as possible is read for one tile, without a footer of many groups

INDEX_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("file", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int32()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("valid_fraction", pa.float32()),
        ("anomalous_fraction", pa.float32()),
        ("redness", pa.float32()),
        ("redness_p90", pa.float32()),
        ("channel_mean", pa.list_(pa.float64(), 3)),
        ("channel_mean_square", pa.list_(pa.float64(), 3)),
        ("error_stage", pa.string()),
        ("error_message", pa.string()),
    ]
)
"""`row` of the row group of the file. `width` and `height`: what of the tile's array is image and not padding.
Fractions are of the tile's own pixels; channel statistics of values scaled to 0..1.
"""


@dataclass(frozen=True)
class TileRef:
    """Where a tile lies in the cache, and how many columns and rows of its array are image and not padding."""

    file: str
    row_group: int
    row: int
    width: int
    height: int


def tile_refs(index: pa.Table, rows: NDArray[np.int64]) -> list[TileRef]:
    """Where the tiles of some rows of an index are."""
    columns = ["file", "row_group", "row", "width", "height"]
    return [TileRef(**row) for row in index.select(columns).take(rows).to_pylist()]


def cache_key(images: list[SourceImage], tiling: Tiling, rule: PixelRule) -> str:
    """Identity of a cache: 16 hex digits over fingerprints, masks, tiling and rule; also the data's fingerprint."""
    described: list[object] = [tiling.tiling_id, rule.model_dump(mode="json")]
    for image in images:
        labels = image.label if image.mask is None else [image.mask.uri, image.mask.anomalous_classes]
        where = [] if image.window is None else [image.window]
        described.append([image.uri, image.fingerprint, labels, *where])
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def error_row(source: SourceImage, error: ImageError) -> dict[str, object]:
    """The index row of an image that failed."""
    known = {"image_id": source.image_id, "path": source.path}
    return {**known, "error_stage": error.stage, "error_message": error.message}


def write_part(folder: str, part: ImagePart, tiles: TileArrays) -> list[dict[str, object]]:
    """Put one part's tiles into the cache. Returns their index rows."""
    if tiles.classes is None:
        raise ValueError("the tile cache holds labelled tiles")
    name = f"{part.source.image_id}-{part.index:04d}.parquet"
    table = pa.table(
        {
            "pixels": pa.array([tile.tobytes() for tile in tiles.pixels], pa.binary()),
            "anomalous": pa.array([np.packbits(mask).tobytes() for mask in tiles.classes > 0], pa.binary()),
        }
    )
    buffer = io.BytesIO()
    in_group = max(1, ROW_GROUP_BYTES // tiles.pixels[0].nbytes)
    pq.write_table(
        table, buffer, row_group_size=in_group, compression="none", use_dictionary=False, write_statistics=False
    )
    storage.put(storage.join(folder, name), buffer.getvalue())
    width, height = part.grid.filled
    red = redness(tiles.pixels)
    left, top = part.source.origin
    return [
        {
            "image_id": part.source.image_id,
            "path": part.source.path,
            "file": name,
            "row_group": i // in_group,
            "row": i % in_group,
            "x": left + tile.x,
            "y": top + tile.y,
            "width": width,
            "height": height,
            "valid_fraction": valid_fraction,
            "anomalous_fraction": anomalous_fraction,
            "redness": red[0][i],
            "redness_p90": red[1][i],
            **_channel_statistics(tiles.pixels[i]),
        }
        for i, (tile, valid_fraction, anomalous_fraction) in enumerate(
            zip(part.grid.tiles(part.block), tiles.valid_fraction, tiles.anomalous_fraction, strict=True)
        )
    ]


def _channel_statistics(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    scaled = pixels.reshape(-1, 3) / np.float32(255)
    return {
        "channel_mean": scaled.mean(axis=0, dtype=np.float64),
        "channel_mean_square": np.square(scaled).mean(axis=0, dtype=np.float64),
    }


def write_index(folder: str, rows: list[dict[str, object]]) -> pa.Table:
    """Put the index, which makes the cache whole."""
    order = ("path", "y", "x")
    table = pa.Table.from_pylist(rows, INDEX_SCHEMA).sort_by([(name, "ascending") for name in order])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.put(storage.join(folder, INDEX), buffer.getvalue())
    return table


def read_index(folder: str) -> pa.Table | None:
    """The index of a whole cache, or None."""
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(storage.join(folder, INDEX))))
    except FileNotFoundError:
        return None


@lru_cache(maxsize=64)
def _open_part(address: str) -> pq.ParquetFile:
    if storage.is_remote(address):
        return pq.ParquetFile(storage.open_read(address, ahead=False))
    return pq.ParquetFile(address, memory_map=True)


def read_tile(folder: str, tile: TileRef, tile_size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One tile of the cache: pixels uint8 (t, t, 3), and anomalous pixels bool (t, t)."""
    group = _open_part(storage.join(folder, tile.file)).read_row_group(tile.row_group)
    pixels = np.frombuffer(group["pixels"][tile.row].as_buffer(), np.uint8).reshape(tile_size, tile_size, 3)
    bits = np.frombuffer(group["anomalous"][tile.row].as_buffer(), np.uint8)
    return pixels, np.unpackbits(bits, count=tile_size**2).reshape(tile_size, tile_size).astype(bool)
