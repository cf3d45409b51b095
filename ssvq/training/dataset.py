"""Which tiles the training sees: labels, the split by image, the supervision level. Every draw is seeded."""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.config import TrainConfig
from ssvq.errors import InputError
from ssvq.imagery.grid import CELL
from ssvq.model.bundle import Preprocessing


@dataclass(frozen=True)
class TileCounts:
    """What was found and what of it is used, for the record and the terminal."""

    images: int
    failed_images: int
    tiles: int
    partly_valid_tiles_left_out: int
    train_normal: int
    train_anomalous: int
    train_anomalous_available: int
    validation_normal: int
    validation_anomalous: int

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True)
class TileSets:
    """Rows of the tile index, as positions, by use; and what follows from the training tiles."""

    train_normal: NDArray[np.int64]
    train_anomalous: NDArray[np.int64]
    validation: NDArray[np.int64]
    validation_labels: NDArray[np.bool_]
    counts: TileCounts
    preprocessing: Preprocessing


def draw_tile_sets(index: pa.Table, config: TrainConfig) -> TileSets:
    """Label the tiles, split them by image, and draw the labelled anomalies that gamma allows.

    A tile is anomalous at or over `anomalous_fraction`. Images with and without an anomalous tile are split
    apart, so that both sides have both. Of the anomalous training tiles M are drawn such that
    M / (M + N) is gamma, or all where there are fewer. Raises InputError where too little is left to train on.
    """
    rng = np.random.default_rng(config.seed)
    failed = pc.is_valid(index["error_stage"]).to_numpy()
    whole = index["valid_fraction"].fill_null(0).to_numpy() >= 1
    for side in ("width", "height"):  # an image smaller than a latent cell has no score
        whole &= index[side].fill_null(0).to_numpy() >= CELL
    usable = np.flatnonzero(~failed & whole)
    anomalous = index["anomalous_fraction"].fill_null(0).to_numpy() >= config.anomalous_fraction
    image_ids = index["image_id"].to_numpy(zero_copy_only=False)

    in_validation = np.isin(image_ids, list(_validation_images(image_ids, anomalous, usable, config, rng)))
    train, validation = usable[~in_validation[usable]], usable[in_validation[usable]]
    normal, available = train[~anomalous[train]], train[anomalous[train]]
    if len(normal) == 0 or not (~anomalous[validation]).any():
        raise InputError(
            f"--images {config.images}: {len(usable)} usable tiles do not leave normal ones both for training and "
            "for validation; give at least 2 images with tiles below --anomalous-fraction"
        )
    wanted = round(config.supervision / (1 - config.supervision) * len(normal))
    labelled = np.sort(rng.permutation(available)[:wanted])
    counts = TileCounts(
        images=len(np.unique(image_ids[usable])),
        failed_images=len(np.unique(image_ids[failed])),
        tiles=int((~failed).sum()),
        partly_valid_tiles_left_out=int((~failed & ~whole).sum()),
        train_normal=len(normal),
        train_anomalous=len(labelled),
        train_anomalous_available=len(available),
        validation_normal=int((~anomalous[validation]).sum()),
        validation_anomalous=int(anomalous[validation].sum()),
    )
    preprocessing = _preprocessing(index, normal, config.tile_size)
    return TileSets(normal, labelled, validation, anomalous[validation], counts, preprocessing)


def _validation_images(
    image_ids: NDArray[np.object_],
    anomalous: NDArray[np.bool_],
    usable: NDArray[np.int64],
    config: TrainConfig,
    rng: np.random.Generator,
) -> set[str]:
    images = np.unique(image_ids[usable])
    with_anomaly = np.isin(images, image_ids[usable[anomalous[usable]]])
    chosen: set[str] = set()
    for group in (images[with_anomaly], images[~with_anomaly]):
        number = round(config.validation_fraction * len(group))
        if len(group) > 1:
            number = min(max(number, 1), len(group) - 1)
        chosen.update(rng.permutation(group)[:number])
    if len(images) > 1 and len(chosen) in (0, len(images)):
        # One image of each kind: the training keeps the anomalies, and either side may have normal tiles.
        chosen = set(images[~with_anomaly])
    return chosen


def _preprocessing(index: pa.Table, tiles: NDArray[np.int64], tile_size: int) -> Preprocessing:
    """Mean and standard deviation by channel over the normal training tiles: the reconstruction error is then
    in units of the pixels' variance, comparable with the latent terms.
    """
    chosen = index.take(tiles)
    mean = np.stack(chosen["channel_mean"].to_numpy(zero_copy_only=False)).mean(axis=0)
    mean_square = np.stack(chosen["channel_mean_square"].to_numpy(zero_copy_only=False)).mean(axis=0)
    std = np.sqrt(np.maximum(mean_square - mean**2, 1e-6))
    return Preprocessing(tile_size=tile_size, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
