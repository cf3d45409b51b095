"""Chooses the tiles of a training: labels, splits, supervision level. Every draw is seeded."""

from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ssvq.errors import InputError
from ssvq.imagery.catalog import NORMAL_LABEL, SourceImage
from ssvq.imagery.manifest import SPLITS
from ssvq.methods.build import method_class
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import cell_of
from ssvq.training.preprocessing import preprocessing_of
from ssvq.training.settings import TrainConfig
from ssvq.training.splits import CALIBRATION, TEST, TRAIN, VALIDATION, draw_splits, draw_splits_alike


@dataclass(frozen=True)
class TileCounts:
    """Counts of what was found and what is used, for the record and the terminal."""

    images: int
    failed_images: int
    tiles: int
    partly_valid_tiles_left_out: int
    tiles_between_fractions_left_out: int
    train_normal: int
    train_normal_available: int
    train_anomalous: int
    train_anomalous_available: int
    labelled_normal: int
    labelled_anomalous: int
    validation_normal: int
    validation_anomalous: int
    calibration_normal: int
    calibration_anomalous: int
    test_normal: int
    test_anomalous: int

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


@dataclass(frozen=True)
class LabelledRows:
    """Rows of the tile index, int64 (n,), and which of them are anomalous, bool (n,)."""

    rows: NDArray[np.int64]
    anomalous: NDArray[np.bool_]


@dataclass(frozen=True)
class TileSets:
    """Rows of the tile index, as positions, by use; and what follows from the training tiles."""

    train_normal: NDArray[np.int64]
    train_anomalous: NDArray[np.int64]
    held_out: dict[str, LabelledRows]
    """Held-out tiles by split (validation, calibration, test): as many as the settings ask for."""
    splits: dict[str, str]
    """Split of each image that has a usable tile, by image_id."""
    knows_pixels: NDArray[np.bool_]
    """For each row of the index, whether the labels of its pixels are known, bool (rows,)."""
    label_in_mask: NDArray[np.bool_]
    """For each row, whether its label is only about the part in its mask, bool (rows,)."""
    counts: TileCounts
    preprocessing: Preprocessing


def draw_tile_sets(index: pa.Table, images: list[SourceImage], config: TrainConfig) -> TileSets:
    """Label the tiles, draw the splits by image or group, and draw the labelled anomalies that gamma allows.

    A tile is anomalous if its anomalous share reaches `anomalous_fraction`, else normal; with `normal_fraction`, tiles
    between the two are dropped. Anomalous training tiles M are drawn such that M / (M + N) is gamma, or all are taken
    if there are fewer. All tiles labelled by hand are taken; their labels replace those of masks.

    Raises InputError if too few tiles are left to train, to choose the checkpoint or to calibrate.
    """
    rng = np.random.default_rng(config.seed)
    by_id = {image.image_id: image for image in images}
    failed = pc.is_valid(index["error_stage"]).to_numpy()
    whole = index["valid_fraction"].fill_null(0).to_numpy() >= 1
    for side in ("width", "height"):  # an image smaller than a latent cell has no score
        whole &= index[side].fill_null(0).to_numpy() >= cell_of(config.architecture)
    image_ids = index["image_id"].to_numpy(zero_copy_only=False)
    by_hand = np.array([i in by_id and by_id[i].window is not None for i in image_ids], bool)
    of_part = np.array([i in by_id and by_id[i].region is not None for i in image_ids], bool)
    anomalous, between = _labels(index, image_ids, by_id, by_hand, of_part, config)
    usable = ~failed & whole & ~between & ~_labelled_anew(index, image_ids, by_id, by_hand, of_part)

    splits = _splits([by_id[i] for i in np.unique(image_ids[usable])], image_ids, anomalous, usable, config, rng)
    of_split = np.array([splits.get(image_id, "") for image_id in image_ids], dtype=object)
    rows = {split: np.flatnonzero(usable & (of_split == split)) for split in SPLITS}
    _check_enough(rows, anomalous, config)

    train = rows[TRAIN]
    normal_available, anomalous_available = train[~anomalous[train]], train[anomalous[train]]
    given = train[by_hand[train]]
    normal = rng.permutation(np.setdiff1d(normal_available, given))[: config.normal_tiles]
    wanted = round(config.supervision / (1 - config.supervision) * len(normal))
    labelled = rng.permutation(np.setdiff1d(anomalous_available, given))[:wanted]
    normal = np.sort(np.concatenate([normal, given[~anomalous[given]]]))
    labelled = np.sort(np.concatenate([labelled, given[anomalous[given]]]))
    counts = TileCounts(
        images=sum(by_id[image_id].window is None for image_id in splits),
        failed_images=len(np.unique(image_ids[failed])),
        tiles=int((~failed).sum()),
        partly_valid_tiles_left_out=int((~failed & ~whole).sum()),
        tiles_between_fractions_left_out=int((~failed & whole & between).sum()),
        train_normal=len(normal),
        train_normal_available=len(normal_available),
        train_anomalous=len(labelled),
        train_anomalous_available=len(anomalous_available),
        labelled_normal=int((~anomalous[given]).sum()),
        labelled_anomalous=int(anomalous[given].sum()),
        **{
            f"{split}_{name}": int((anomalous[rows[split]] == is_anomalous).sum())
            for split in (VALIDATION, CALIBRATION, TEST)
            for name, is_anomalous in (("normal", False), ("anomalous", True))
        },
    )
    return TileSets(
        train_normal=normal,
        train_anomalous=labelled,
        held_out={
            VALIDATION: _balanced(rows[VALIDATION], anomalous, config.validation_tiles, rng),
            CALIBRATION: _as_they_come(rows[CALIBRATION], anomalous, config.calibration_tiles, rng),
            TEST: _balanced(rows[TEST], anomalous, config.test_tiles, rng),
        },
        splits=splits,
        knows_pixels=_knows_pixels(image_ids, by_id),
        label_in_mask=of_part if _by_cell(config) else np.zeros_like(of_part),
        counts=counts,
        preprocessing=preprocessing_of(index, normal, config),
    )


def _labels(
    index: pa.Table,
    image_ids: NDArray[np.object_],
    by_id: dict[str, SourceImage],
    by_hand: NDArray[np.bool_],
    of_part: NDArray[np.bool_],
    config: TrainConfig,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tiles are anomalous, and which are neither anomalous nor normal, bool (tiles,) each.

    A whole image has the label of its layout, if there is one: a small defect is a defect. A tile labelled by hand has
    that label. If a part of a tile was labelled, and labels act by tile, an anomalous part of at least
    `anomalous_fraction` makes the tile anomalous; any other part says nothing about it.
    """
    fraction = index["anomalous_fraction"].fill_null(0).to_numpy()
    anomalous = fraction >= config.anomalous_fraction
    between = ~anomalous & (fraction > config.normal_limit)
    if config.whole_images or by_hand.any():
        labels = [by_id[image_id].label if image_id in by_id else None for image_id in image_ids]
        known = np.array([label is not None for label in labels], bool) & (config.whole_images | by_hand)
        anomalous = np.where(known, [label not in (None, NORMAL_LABEL) for label in labels], anomalous)
        between &= ~known
    if not _by_cell(config):
        unknown = of_part & ~(anomalous & (fraction >= config.anomalous_fraction))
        anomalous, between = anomalous & ~unknown, between | unknown
    return anomalous, between


def _by_cell(config: TrainConfig) -> bool:
    return method_class(config.method).labels_by_cell(config.objective)


def _knows_pixels(image_ids: NDArray[np.object_], by_id: dict[str, SourceImage]) -> NDArray[np.bool_]:
    """Tiles whose pixels have labels, bool (tiles,): by a mask, or because the whole image or labelled tile is
    normal.
    """
    known = {
        image_id
        for image_id, image in by_id.items()
        if image.label == NORMAL_LABEL or (image.mask is not None and image.window is None)
    }
    return np.array([image_id in known for image_id in image_ids], bool)


def _labelled_anew(
    index: pa.Table,
    image_ids: NDArray[np.object_],
    by_id: dict[str, SourceImage],
    by_hand: NDArray[np.bool_],
    of_part: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Tiles that also occur as labelled by hand as a whole, bool (tiles,)."""
    whole = by_hand & ~of_part
    if not whole.any():
        return whole
    columns = [index[name].to_pylist() for name in ("x", "y", "width", "height")]
    uris = [by_id[image_id].uri if image_id in by_id else None for image_id in image_ids]
    places = list(zip(uris, *columns, strict=True))
    given = {place for place, flag in zip(places, whole, strict=True) if flag}
    return ~by_hand & np.array([place in given for place in places], bool)


def _splits(
    images: list[SourceImage],
    image_ids: NDArray[np.object_],
    anomalous: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    config: TrainConfig,
    rng: np.random.Generator,
) -> dict[str, str]:
    with_anomaly = set(image_ids[usable & anomalous])
    with_normal = set(image_ids[usable & ~anomalous])
    splits = draw_splits(images, with_anomaly, config, rng)
    covered = {splits[image_id] for image_id in with_normal}
    if {TRAIN, VALIDATION, CALIBRATION} <= covered:
        return splits
    return draw_splits_alike(images, config, rng)


def _check_enough(rows: dict[str, NDArray[np.int64]], anomalous: NDArray[np.bool_], config: TrainConfig) -> None:
    lacking = [split for split in (TRAIN, VALIDATION, CALIBRATION) if not (~anomalous[rows[split]]).any()]
    if not lacking:
        return
    usable = sum(len(found) for found in rows.values())
    raise InputError(
        f"{config.source}: {usable} usable tiles do not leave normal ones for each of training, validation and "
        f"calibration (none for {' and '.join(lacking)}); give at least 3 images with tiles below "
        "--anomalous-fraction"
        + ("" if config.manifest is None else ", and each of these splits in the manifest, or an empty one")
    )


def _balanced(
    rows: NDArray[np.int64], anomalous: NDArray[np.bool_], number: int, rng: np.random.Generator
) -> LabelledRows:
    """At most this many tiles, half of them anomalous if there are enough.

    AUROC does not depend on the balance of classes, but its error does.
    """
    of_anomalous, of_normal = (rng.permutation(rows[anomalous[rows] == flag]) for flag in (True, False))
    wanted = min(len(of_anomalous), max(number // 2, number - len(of_normal)))
    chosen = np.sort(np.concatenate([of_anomalous[:wanted], of_normal[: number - wanted]]))
    return LabelledRows(chosen, anomalous[chosen])


def _as_they_come(
    rows: NDArray[np.int64], anomalous: NDArray[np.bool_], number: int, rng: np.random.Generator
) -> LabelledRows:
    chosen = np.sort(rng.permutation(rows)[:number])
    return LabelledRows(chosen, anomalous[chosen])
