"""The held-out tiles and their scores, kept beside the bundle so that its figures can be looked into."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssvq.imagery.catalog import SourceImage
from ssvq.training.dataset import TileSets

HELD_OUT = "held-out.parquet"
_FROM_INDEX = ["image_id", "path", "x", "y", "anomalous_fraction", "redness", "redness_p90"]


def held_out_table(
    index: pa.Table, images: list[SourceImage], tile_sets: TileSets, scores: dict[str, NDArray[np.float64]]
) -> pa.Table:
    """One row a tile: its split, image, group and place, its label, its score and the colour references."""
    groups = {image.image_id: image.group for image in images}
    tables = []
    for split, labelled in tile_sets.held_out.items():
        table = index.select(_FROM_INDEX).take(labelled.rows)
        group = [groups[image_id] for image_id in table["image_id"].to_pylist()]
        for name, values in (
            ("split", pa.array([split] * len(table), pa.string())),
            ("group", pa.array(group, pa.string())),
            ("anomalous", pa.array(labelled.anomalous, pa.bool_())),
            ("score", pa.array(scores[split][:, 0], pa.float64())),
            ("score_worst", pa.array(scores[split][:, 1], pa.float64())),
        ):
            table = table.append_column(name, values)
        tables.append(table)
    return pa.concat_tables(tables)
