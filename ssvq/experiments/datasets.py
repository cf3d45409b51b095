"""What --data of an experiment accepts: one data set, or a folder of MVTec AD categories."""

from dataclasses import dataclass
from typing import Any

from ssvq.errors import InputError
from ssvq.experiments.settings import ExperimentConfig
from ssvq.io import storage

OBJECTS = (
    "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"
)  # fmt: skip
"""MVTec AD categories that are taken whole; all other data sets are cut into patches."""

PATCHES = {"tile_size": 64}


@dataclass(frozen=True)
class DataSet:
    """Labelled images, by the settings of `ssvq train` that name and cut them."""

    name: str
    settings: dict[str, Any]

    @property
    def whole(self) -> bool:
        """Whether its images are objects, taken whole."""
        return bool(self.settings.get("whole_images"))


def find_data_sets(config: ExperimentConfig) -> list[DataSet]:
    """The data sets under --data. Raises InputError if there is none."""
    root = config.data
    name = storage.base_name(root)
    if name.endswith((".csv", ".parquet")) and storage.exists(root):
        return [DataSet(name.rpartition(".")[0], {**PATCHES, "manifest": root})]
    if storage.is_folder(storage.join(root, "images")):
        masks = storage.join(root, "masks")
        with_masks = {"masks": masks} if storage.is_folder(masks) else {}
        return [DataSet(name, {**PATCHES, "images": storage.join(root, "images"), **with_masks})]
    if _is_category(root):
        return [_category(root, config.object_size)]
    inside = sorted({info.path.split("/")[0] for info in storage.list_files(root) if "/" in info.path})
    categories = [storage.join(root, folder) for folder in inside]
    found = [_category(folder, config.object_size) for folder in categories if _is_category(folder)]
    if not found:
        raise InputError(
            f"--data {root} has neither images/, nor train/good, nor folders that have it; a manifest ends in .csv or "
            ".parquet"
        )
    return found


def _is_category(folder: str) -> bool:
    return storage.is_folder(storage.join(folder, "train", "good"))


def _category(folder: str, object_size: int) -> DataSet:
    """A category of MVTec AD: patches are anomalous from 5 % on, as in the paper (section IV.B)."""
    name = storage.base_name(folder)
    if name in OBJECTS:
        cut: dict[str, Any] = {"tile_size": object_size, "whole_images": True}
    else:
        cut = {**PATCHES, "anomalous_fraction": 0.05}
    return DataSet(name, {**cut, "mvtec": folder})
