"""JPEG files that go to the scorer undecoded, to be decoded on its device."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ssvq.errors import ImageError
from ssvq.imagery.decoder import decoder
from ssvq.imagery.pixel_rule import AS_STORED
from ssvq.imagery.settings import ReadLimits
from ssvq.imagery.units import ImagePart
from ssvq.io import storage
from ssvq.scoring.rows import READ, flat, list_of, one_row

if TYPE_CHECKING:  # it brings torch
    from torch import Tensor

    from ssvq.inference.scorer import TileScorer, TileScores


CPU_DECODER = "GDAL"


def is_for_gpu(part: ImagePart) -> bool:
    """Whether the scorer can decode a part itself: a whole JPEG photograph whose tiles need no padding, resizing,
    labels or pixel rule.
    """
    header, source, size = part.header, part.source, part.tiling.tile_size
    return (
        header is not None
        and header.driver == "JPEG"
        and header.bands in (1, 3)
        and header.dtype == "uint8"
        and min(header.width, header.height) >= size
        and part.count == 1
        and not part.tiling.whole
        and part.rule == AS_STORED
        and source.mask is None
        and source.label is None
        and source.window is None
    )


def file_row(parts: Sequence[ImagePart]) -> pa.Table:
    """A READ row of parts for which `is_for_gpu` is true, with the bytes of their files. A file that cannot be read
    marks its part as failed.
    """
    files: list[bytes | None] = []
    messages: list[str | None] = []
    seconds = []
    for part in parts:
        started = time.perf_counter()
        try:
            files.append(storage.read_bytes(part.source.uri))
            messages.append(None)
        except OSError as error:
            files.append(None)
            messages.append(f"cannot be read: {error}")
        seconds.append(time.perf_counter() - started)
    tiles = [0 if file is None else len(part.block) for part, file in zip(parts, files, strict=True)]
    kept = [np.arange(number, dtype=np.int32) for number in tiles]
    return one_row(
        READ,
        {
            "parts": list_of(pa.array([part.to_json() for part in parts])),
            "error_stages": list_of(
                pa.array([None if message is None else "read" for message in messages], pa.string())
            ),
            "error_messages": list_of(pa.array(messages, pa.string())),
            "read_seconds": list_of(np.array(seconds)),
            "tiles": list_of(np.array(tiles, np.int32)),
            "decoders": list_of(pa.nulls(len(parts), pa.string())),
            "masked": list_of(np.zeros(len(parts), bool)),
            "files": list_of(pa.array(files, pa.large_binary())),
            "kept": list_of(np.concatenate(kept)),
            "valid_fraction": list_of(np.ones(sum(tiles), np.float32)),
        },
    )


def score_files(
    scorer: "TileScorer", row: pa.Table, limits: ReadLimits
) -> "tuple[TileScores | None, dict[str, pa.Array]]":
    """Scores of the tiles of a `file_row`, and the columns that decoding sets.

    The CPU decodes what the device's decoder refuses. If it cannot either, the part fails.
    """
    from ssvq.inference.jpeg import cut_on_device
    from ssvq.inference.scorer import TileScores

    if scorer.jpegs is None:
        raise ValueError("this scorer decodes no files")
    parts = [ImagePart.from_json(text) for text in flat(row, "parts").to_pylist()]
    files = flat(row, "files").to_pylist()
    read = [number for number, file in enumerate(files) if file is not None]
    pictures: dict[int, Tensor | None] = dict(zip(read, scorer.jpegs.decode([files[i] for i in read]), strict=True))
    stages, messages = flat(row, "error_stages").to_pylist(), flat(row, "error_messages").to_pylist()
    decoders: list[str | None] = [None] * len(parts)
    scores = []
    for number, picture in pictures.items():
        part, header = parts[number], parts[number].header
        assert header is not None
        tiles: Tensor | np.ndarray
        if picture is not None and tuple(picture.shape[:2]) == (header.height, header.width):
            tiles = cut_on_device(picture, *part.grid.corners(part.block), part.tiling.tile_size)
            decoders[number] = scorer.jpegs.name
        else:
            ((_, result),) = decoder(limits).read([part])
            if isinstance(result, ImageError):
                stages[number], messages[number] = result.stage, result.message
                continue
            tiles, decoders[number] = result.pixels, CPU_DECODER
        scores.append(scorer.score(tiles))
    counts = [0 if stage else len(part.block) for part, stage in zip(parts, stages, strict=True)]
    n = sum(counts)
    changes = {
        "error_stages": list_of(pa.array(stages, pa.string())),
        "error_messages": list_of(pa.array(messages, pa.string())),
        "decoders": list_of(pa.array(decoders, pa.string())),
        "tiles": list_of(np.array(counts, np.int32)),
        "kept": list_of(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        "valid_fraction": list_of(np.ones(n, np.float32)),
    }
    return (TileScores.joined(scores, np.arange(n)) if scores else None), changes
