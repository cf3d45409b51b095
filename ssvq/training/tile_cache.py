"""The tile cache: labelled tiles cut once, kept as Arrow IPC files whose tiles are read from a memory map.

    CACHE/<key>/<image_id>-<part>.arrow     tiles of a few parts of images, a record batch for each part
    CACHE/<key>/index.parquet               written last: one row a tile, or one for an image that failed

The key is made of the sources' fingerprints, the mask classes, the tiling, the pixel rule and the version of this
format, so changed images are cut anew; a cache without its index is unfinished and is cut again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.colour import redness
from ssvq.imagery.grid import Tiling
from ssvq.imagery.near_duplicates import shrink
from ssvq.imagery.pixel_rule import PixelRule
from ssvq.imagery.tiles import TileArrays
from ssvq.imagery.units import ImagePart
from ssvq.io import parquet, storage

INDEX = "index.parquet"
FORMAT = 4
CHANNELS = ("red", "green", "blue")

INDEX_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("file", pa.string()),
        ("batch", pa.int32()),
        ("row", pa.int32()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("valid_fraction", pa.float32()),
        ("anomalous_fraction", pa.float32()),
        ("redness", pa.float32()),
        ("redness_p90", pa.float32()),
        *((f"mean_{channel}", pa.float64()) for channel in CHANNELS),
        *((f"mean_square_{channel}", pa.float64()) for channel in CHANNELS),
        ("small_picture", pa.binary()),
        ("error_stage", pa.string()),
        ("error_message", pa.string()),
    ]
)
"""`row`: of the record batch in the file. `width` and `height`: the part of the tile's array that is image and not
padding.

Fractions are over the tile's own pixels; channel statistics are of values scaled to 0..1. All columns are flat: pyarrow
25 cannot read nulls of fixed-size lists.
"""


@dataclass(frozen=True)
class TileRef:
    """The position of a tile in the cache, and how many columns and rows of its array are image.

    `is_clean`: no pixel is anomalous, so its mask need not be read. `knows_pixels`: if false, the label is about the
    whole tile and the mask says nothing. `label_in_mask`: the mask is the part that the label is about, normal or
    anomalous, and the rest is unknown.
    """

    file: str
    batch: int
    row: int
    width: int
    height: int
    is_clean: bool = False
    knows_pixels: bool = True
    label_in_mask: bool = False


def tile_refs(
    index: pa.Table,
    rows: NDArray[np.int64],
    knows_pixels: NDArray[np.bool_] | None = None,
    label_in_mask: NDArray[np.bool_] | None = None,
) -> list[TileRef]:
    """References to the tiles of some rows of an index.

    `knows_pixels`, `label_in_mask`: for each row of the index (default: all true, all false).
    """
    chosen = index.take(rows)
    columns = [chosen[name].to_pylist() for name in ("file", "batch", "row", "width", "height")]
    is_clean = (chosen["anomalous_fraction"].to_numpy() == 0).tolist()
    known = [True] * len(rows) if knows_pixels is None else knows_pixels[rows].tolist()
    parts = [False] * len(rows) if label_in_mask is None else label_in_mask[rows].tolist()
    return [TileRef(*place) for place in zip(*columns, is_clean, known, parts, strict=True)]


def cache_key(images: list[SourceImage], tiling: Tiling, rule: PixelRule) -> str:
    """Identity of a cache: 16 hex digits of a hash over fingerprints, masks, tiling and rule. It also identifies the
    data.
    """
    described: list[object] = [FORMAT, tiling.tiling_id, rule.model_dump(mode="json")]
    for image in images:
        labels = image.label if image.mask is None else [image.mask.uri, image.mask.anomalous_classes]
        where = [] if image.window is None else [image.window, *([image.region] if image.region else [])]
        described.append([image.uri, image.fingerprint, labels, *where])
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def error_row(source: SourceImage, error: ImageError) -> dict[str, object]:
    """The index row of a failed image."""
    known = {"image_id": source.image_id, "path": source.path}
    return {**known, "error_stage": error.stage, "error_message": error.message}


def write_part(folder: str, part: ImagePart, tiles: TileArrays) -> list[dict[str, object]]:
    """Write the tiles of one part into the cache; see `write_parts`."""
    return write_parts(folder, [(part, tiles)])


def write_parts(folder: str, parts: Sequence[tuple[ImagePart, TileArrays]]) -> list[dict[str, object]]:
    """Write the tiles of parts, all of one size, into a file of the cache. Returns their index rows.

    A tile has pixels uint8 (t, t, 3), and a mask of one bit a pixel, each row padded to whole bytes.
    """
    first = parts[0][0]
    name = f"{first.source.image_id}-{first.index:04d}.arrow"
    size = first.tiling.tile_size
    columns = {"pixels": pa.binary(3 * size**2), "anomalous": pa.binary(size * bytes_of(size))}
    schema = pa.schema(list(columns.items()))
    sink = pa.BufferOutputStream()
    rows: list[dict[str, object]] = []
    with pa.ipc.new_file(sink, schema) as writer:
        for number, (part, tiles) in enumerate(parts):
            if tiles.classes is None:
                raise ValueError("the tile cache holds labelled tiles")
            arrays = (tiles.pixels, np.packbits(tiles.classes > 0, axis=-1))
            fixed = [_fixed(array, dtype) for array, dtype in zip(arrays, columns.values(), strict=True)]
            writer.write_batch(pa.record_batch(fixed, schema))
            rows.extend(_index_rows(part, tiles, name, number))
    storage.put(storage.join(folder, name), sink.getvalue().to_pybytes())
    return rows


def bytes_of(pixels: int) -> int:
    """Bytes in a row of a mask."""
    return -(-pixels // 8)


def _fixed(array: NDArray[np.uint8], dtype: pa.DataType) -> pa.Array:
    """An array (n, ...) as n values of fixed size, without a copy."""
    return pa.Array.from_buffers(dtype, len(array), [None, pa.py_buffer(np.ascontiguousarray(array))])


def _index_rows(part: ImagePart, tiles: TileArrays, file: str, batch: int) -> list[dict[str, object]]:
    width, height = part.grid.filled
    red = redness(tiles.pixels)
    left, top = part.source.origin
    return [
        {
            "image_id": part.source.image_id,
            "path": part.source.path,
            "file": file,
            "batch": batch,
            "row": i,
            "x": left + tile.x,
            "y": top + tile.y,
            "width": width,
            "height": height,
            "valid_fraction": valid_fraction,
            "anomalous_fraction": anomalous_fraction,
            "redness": red[0][i],
            "redness_p90": red[1][i],
            "small_picture": shrink(tiles.pixels[i, ..., 1]).tobytes(),
            **_channel_statistics(tiles.pixels[i]),
        }
        for i, (tile, valid_fraction, anomalous_fraction) in enumerate(
            zip(part.grid.tiles(part.block), tiles.valid_fraction, tiles.anomalous_fraction, strict=True)
        )
    ]


def _channel_statistics(pixels: NDArray[np.uint8]) -> dict[str, float]:
    scaled = pixels.reshape(-1, 3) / np.float32(255)
    means = scaled.mean(axis=0, dtype=np.float64).tolist()
    squares = np.square(scaled).mean(axis=0, dtype=np.float64).tolist()
    return {f"mean_{channel}": mean for channel, mean in zip(CHANNELS, means, strict=True)} | {
        f"mean_square_{channel}": mean for channel, mean in zip(CHANNELS, squares, strict=True)
    }


def write_index(folder: str, rows: list[dict[str, object]]) -> pa.Table:
    """Write the index, which completes the cache."""
    order = ("path", "y", "x")
    table = pa.Table.from_pylist(rows, INDEX_SCHEMA).sort_by([(name, "ascending") for name in order])
    parquet.put(storage.join(folder, INDEX), table)
    return table


def read_index(folder: str) -> pa.Table | None:
    """The index of a complete cache, or None."""
    try:
        return parquet.read(storage.join(folder, INDEX))
    except FileNotFoundError:
        return None
