"""The held-out tiles and their scores, kept beside the bundle so that its figures can be checked."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.imagery.catalog import SourceImage
from ssvq.model.accuracy import SPLITS, Estimated, Split, SplitAccuracy
from ssvq.model.bootstrap import Multiplicities, Ranking, Statistic, bootstrap, interval
from ssvq.model.calibration import Calibration
from ssvq.training.dataset import TileSets

HELD_OUT = "held-out.parquet"
_FROM_INDEX = ["image_id", "path", "x", "y", "anomalous_fraction", "redness", "redness_p90"]


def held_out_table(
    index: pa.Table, images: list[SourceImage], tile_sets: TileSets, scores: dict[str, NDArray[np.float64]]
) -> pa.Table:
    """One row for each tile: split, image, group and position, label, scores and colour references."""
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


def accuracy_by_split(held_out: pa.Table, calibration: Calibration) -> dict[Split, SplitAccuracy]:
    """Accuracy of the deciding column on each split, with intervals over images or groups."""
    tables = {split: held_out.filter(pc.equal(held_out["split"], split)) for split in SPLITS}
    return {split: _accuracy(table, calibration) for split, table in tables.items() if len(table)}


def _accuracy(tiles: pa.Table, calibration: Calibration) -> SplitAccuracy:
    anomalous = tiles["anomalous"].to_numpy()
    scores = tiles[calibration.decides].to_numpy()
    over = scores >= calibration.deciding.threshold
    model = Ranking(scores, anomalous)
    statistics: dict[str, Statistic] = {
        "auroc": model.auroc,
        "average_precision": model.average_precision,
        "found": lambda taken: _share(over, taken * anomalous),
        "false_alarms": lambda taken: _share(over, taken * ~anomalous),
        "colour_auroc": Ranking(tiles["redness"].to_numpy(), anomalous).auroc,
    }
    values = bootstrap(pc.coalesce(tiles["group"], tiles["path"]).to_pylist(), statistics)
    once = np.ones(len(tiles), np.int64)
    estimates = {}
    for name, statistic in statistics.items():
        bounds = interval(values[name])
        estimates[name] = Estimated(value=statistic(once), low=bounds.low, high=bounds.high)
    return SplitAccuracy(
        images=pc.count_distinct(tiles["path"]).as_py(),
        normal_tiles=int((~anomalous).sum()),
        anomalous_tiles=int(anomalous.sum()),
        **estimates,
    )


def _share(having: NDArray[np.bool_], taken: Multiplicities) -> float:
    """Share of `having` among the tiles, each counted as often as it is `taken`; NaN if none is."""
    number = taken.sum()
    return float(taken[having].sum() / number) if number else float("nan")
