"""Scored tiles with their labels, gathered from all images into one table."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.config import ScoringSettings
from ssvq.errors import ImageError
from ssvq.evaluation.pixels import PixelCounter
from ssvq.evaluation.regions import PixelCounts
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.units import ImagePart
from ssvq.progress import Progress
from ssvq.scoring.stages import score_units

TILES = pa.schema(
    [
        ("image", pa.string()),
        ("group", pa.string()),
        ("x", pa.int32()),
        ("y", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("anomalous_fraction", pa.float32()),
        ("anomalous", pa.bool_()),
        ("defect", pa.string()),
        ("score", pa.float32()),
        ("redness", pa.float32()),
        ("redness_p90", pa.float32()),
    ]
)
"""A row a tile. image: path below the images' root. group: what images of one part share, null where not known.
defect: null without anomalous pixels. redness, redness_p90: the colour references."""

SCORED_COLUMNS = ["anomalous_fraction", "defect", "score", "redness", "redness_p90"]


@dataclass(frozen=True)
class ScoredTiles:
    """`tiles` (schema TILES) and `pixels` of the images that did not fail; `pixels` is None where there is no heat,
    or no anomalous pixel under it.
    """

    tiles: pa.Table
    pixels: PixelCounts | None
    failed: list[tuple[SourceImage, ImageError]]


def score_labelled(units: list[list[ImagePart]], config: ScoringSettings, anomalous_fraction: float) -> ScoredTiles:
    """Score the tiles of labelled images.

    A tile is anomalous at or over `anomalous_fraction`; an image taken whole has the label of its layout, if any.
    """
    tables = [TILES.empty_table()]
    failed: list[tuple[SourceImage, ImageError]] = []
    if not units:
        return ScoredTiles(tables[0], None, failed)
    counter = PixelCounter()
    with Progress("scoring", sum(len(part.block) for unit in units for part in unit), "tiles") as progress:
        for batch in score_units(units, config).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            for row in (batch.slice(i, 1) for i in range(len(batch))):
                part = ImagePart.from_json(row["part"][0].as_py())
                progress.advance(len(part.block))
                stage = row["error_stage"][0].as_py()
                if stage:
                    failed.append((part.source, ImageError(stage, row["error_message"][0].as_py())))
                    continue
                tables.append(_tile_table(part, row, anomalous_fraction))
                counter.add(part, row)
    pixels = counter.finish()
    failed.extend(counter.failed)
    tiles = pa.concat_tables(tables)
    # Of an image that failed in part nothing is kept.
    bad = pa.array(sorted({source.path for source, _ in failed}), pa.string())
    return ScoredTiles(tiles.filter(pc.invert(pc.is_in(tiles["image"], bad))), pixels, failed)


def groups_of(tiles: pa.Table) -> NDArray[np.str_]:
    """What a bootstrap draws together, (n,): the image's group, or the image where it has none."""
    return np.asarray(pc.coalesce(tiles["group"], tiles["image"]).to_pylist(), dtype=np.str_)


def _tile_table(part: ImagePart, row: pa.Table, anomalous_fraction: float) -> pa.Table:
    """TILES rows of one SCORED row."""
    block = list(part.grid.tiles(part.block))
    tiles = [block[position] for position in row["kept"][0].as_py()]
    columns = {name: row[name][0].as_py() for name in SCORED_COLUMNS}
    # In the precision of the column: a fraction that is the limit must not fall below it.
    columns["anomalous"] = np.array(columns["anomalous_fraction"], np.float32) >= np.float32(anomalous_fraction)
    label = part.source.label
    if part.tiling.whole and label is not None:  # a small defect is one all the same, as in training
        columns["anomalous"] = [label != NORMAL_LABEL] * len(tiles)
        columns["defect"] = [None if label == NORMAL_LABEL else label] * len(tiles)
    return pa.table(
        {
            "image": [part.source.path] * len(tiles),
            "group": [part.source.group] * len(tiles),
            **{name: [getattr(tile, name) for tile in tiles] for name in ("x", "y", "width", "height")},
            **columns,
        },
        TILES,
    )
