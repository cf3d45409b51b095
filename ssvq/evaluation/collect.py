"""Scores labelled images and collects their tiles in one table."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.errors import ImageError
from ssvq.evaluation.pixels import PixelCounter
from ssvq.evaluation.regions import PixelCounts
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.model.description import Bundle
from ssvq.progress import Progress
from ssvq.runtime.planning import ImageStream
from ssvq.scoring.rows import LABELS, ScoredPart, scored_parts
from ssvq.scoring.settings import ScoringSettings
from ssvq.scoring.stages import score_images

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
        ("score_worst", pa.float32()),
        ("redness", pa.float32()),
        ("redness_p90", pa.float32()),
    ]
)
"""A row for each tile. image: path below the root. group: shared by images of one part, null if unknown. defect:
null without anomalous pixels. redness, redness_p90: the colour references.
"""


@dataclass(frozen=True)
class ScoredTiles:
    """`tiles` (schema TILES) and `pixels` of the images that did not fail. `pixels` is None without heat, or without
    anomalous pixels under it.
    """

    tiles: pa.Table
    pixels: PixelCounts | None
    failed: list[tuple[SourceImage, ImageError]]


def score_labelled(images: list[SourceImage], config: ScoringSettings, bundle: Bundle) -> ScoredTiles:
    """Score the tiles of labelled images.

    A tile is anomalous if its anomalous share reaches the bundle's; a whole image has the label of its layout, if there
    is one.
    """
    if not images:
        return ScoredTiles(TILES.empty_table(), None, [])
    tables = [TILES.empty_table()]
    failed: list[tuple[SourceImage, ImageError]] = []
    counter = PixelCounter(bundle.preprocessing.cell)
    with ImageStream(images) as stream, Progress("scoring", len(images), "images") as progress:
        rows = score_images(stream, config, bundle, bundle.preprocessing.tiling)
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for scored in scored_parts(batch):
                part = scored.part
                stream.end(1 / part.count)
                progress.advance(1 / part.count)
                if scored.error is not None:
                    failed.append((part.source, scored.error))
                    continue
                tables.append(_tile_table(scored, bundle.anomalous_fraction))
                counter.add(scored)
        stream.check()
        pixels = counter.finish()
    failed.extend(counter.failed)
    tiles = pa.concat_tables(tables)
    # An image that failed in part is dropped whole.
    bad = pa.array(sorted({source.path for source, _ in failed}), pa.string())
    return ScoredTiles(tiles.filter(pc.invert(pc.is_in(tiles["image"], bad))), pixels, failed)


def groups_of(tiles: pa.Table) -> NDArray[np.str_]:
    """The units of a bootstrap, (n,): the image's group, or the image if it has none."""
    return np.asarray(pc.coalesce(tiles["group"], tiles["image"]).to_pylist(), dtype=np.str_)


def _tile_table(scored: ScoredPart, anomalous_fraction: float) -> pa.Table:
    """TILES rows of the tiles of a part."""
    part, labels, n = scored.part, scored.labels, len(scored.kept)
    assert labels is not None or n == 0
    _, _, x, y, width, height = part.grid.places(part.block, scored.kept)
    columns = {
        "image": pa.repeat(part.source.path, n),
        "group": pa.repeat(pa.scalar(part.source.group, pa.string()), n),
        **dict(zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)),
        "score": scored.score,
        "score_worst": scored.score_worst,
    }
    if labels is None:
        return TILES.empty_table()
    columns |= {name: getattr(labels, name) for name in (*LABELS, "defect")}
    # In the precision of the column: a share equal to the limit must not fall below it.
    columns["anomalous"] = labels.anomalous_fraction >= np.float32(anomalous_fraction)
    label = part.source.label
    if part.tiling.whole and label is not None:  # a small defect is a defect, as in training
        columns["anomalous"] = np.full(n, label != NORMAL_LABEL)
        columns["defect"] = pa.repeat(pa.scalar(None if label == NORMAL_LABEL else label, pa.string()), n)
    return pa.table({name: columns[name] for name in TILES.names}, TILES)
