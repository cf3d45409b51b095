"""The grid of an experiment: the data sets, rows, supervision levels and seeds of its cells, by preset."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ssvq.errors import InputError
from ssvq.experiments.datasets import DataSet
from ssvq.experiments.rows import ABLATION_ROWS, LATENT_ROWS, METHOD_ROWS, OURS, SENSITIVITY_ROWS, Row
from ssvq.experiments.settings import ExperimentConfig
from ssvq.io import storage
from ssvq.training.settings import TrainConfig

CELLS, TILE_CACHE = "cells", "tile-cache"
GAMMAS = (0.0, 0.01, 0.05, 0.1, 0.2)  # of the paper
ROWS: dict[str, tuple[Row, ...]] = {
    "table1": METHOD_ROWS,
    "supervision": METHOD_ROWS,
    "latents": LATENT_ROWS,
    "sensitivity": SENSITIVITY_ROWS,
    "ablation": ABLATION_ROWS,
}
LEVELS: dict[str, tuple[float, ...]] = {
    "table1": (0.2,),
    "supervision": GAMMAS,
    "latents": (0.0, 0.05, 0.2),
    "sensitivity": (0.2,),
    "ablation": (0.2,),
}
AT_EVERY_LEVEL = (OURS, "deep-sad", "classifier")  # of `quick`, with all its seeds
LEVELS_OF_ALL = (0.0, 0.2)  # of `quick`, for the other methods, with one seed; and all of `smoke`
SEEDS = {"paper": 10, "quick": 1, "smoke": 1}
SEEDS_AT_EVERY_LEVEL = 3

SHARED: dict[str, Any] = {
    "architecture": {"encoder": "paper"},
    "test_fraction": 0.3,
    "validation_fraction": 0.15,
    "calibration_fraction": 0.05,
    "validation_tiles": 500,
    "calibration_tiles": 200,
    "test_tiles": 2000,
    "allow_failed_images": True,
}
HALF_WIDTH = {"hidden": 64, "residual_hidden": 16}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"steps": 15_000, "batch_size": 128, "normal_tiles": 10_000},
    "quick": {"steps": 450, "batch_size": 32, "normal_tiles": 4000, "architecture": HALF_WIDTH},
    "smoke": {
        "steps": 4,
        "validate_every": 4,  # each is also a checkpoint, which takes longer than these steps
        "batch_size": 8,
        "normal_tiles": 64,
        "validation_tiles": 16,
        "calibration_tiles": 40,
        "test_tiles": 40,
        "architecture": {"hidden": 8, "residual_hidden": 4, "codes": 16, "dimensions": 8},
        "kernel": {"samples": 50, "side": 8},
        "memory": {"samples": 20, "candidates": 500, "cells": 50},
        "flow": {"blocks": 2, "hidden": 16, "views": 1},
    },
}


@dataclass(frozen=True)
class Cell:
    """One training and its test."""

    data: DataSet
    row: Row
    gamma: float
    """Supervision level of the training: 0 for a row without labelled anomalies, whatever its column."""
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """Its name in the output's paths. Cells with one name are one training, whatever their row."""
        return storage.base_name(self.config.out)


def make_grid(config: ExperimentConfig, data_sets: list[DataSet]) -> list[Cell]:
    """The cells of an experiment, each once. Raises InputError for unknown rows or settings."""
    points = dict.fromkeys(_points(config))
    return [
        Cell(data, row, gamma, seed, _train_config(config, data, row, gamma, seed))
        for data in data_sets
        for row, gamma, seed in points
    ]


def levels(config: ExperimentConfig) -> tuple[float, ...]:
    """The supervision levels of the experiment."""
    if config.gammas:
        return tuple(config.gammas)
    few = config.preset == "smoke" and config.name == "supervision"
    return LEVELS_OF_ALL if few else LEVELS[config.name]


def rows(config: ExperimentConfig) -> list[Row]:
    """The rows of the experiment. Raises InputError for an unknown one."""
    known = ROWS[config.name]
    names = [row.name for row in known]
    unknown = [name for name in config.methods or [] if name not in names]
    if unknown:
        raise InputError(f"--methods: {config.name} has no {unknown[0]!r}; it has {', '.join(names)}")
    return [row for row in known if not config.methods or row.name in config.methods]


def _points(config: ExperimentConfig) -> Iterator[tuple[Row, float, int]]:
    """Seeds are outermost, so that an interrupted experiment has all methods with fewer seeds."""
    quick = config.name == "supervision" and config.preset == "quick"
    default = SEEDS_AT_EVERY_LEVEL if quick else 1 if config.name == "latents" else SEEDS[config.preset]
    for seed in range(config.seeds or default):
        for gamma in levels(config):
            for row in rows(config):
                # Methods asked for by name are run, whatever the preset leaves out.
                if quick and row.name not in AT_EVERY_LEVEL and not config.methods:
                    if not config.seeds and seed > 0:
                        continue
                    if not config.gammas and gamma not in LEVELS_OF_ALL:
                        continue
                if row.name == "classifier" and gamma == 0:
                    continue  # there is nothing to classify
                yield row, gamma if row.uses_anomalies else 0.0, seed


def _train_config(config: ExperimentConfig, data: DataSet, row: Row, gamma: float, seed: int) -> TrainConfig:
    values: dict[str, Any] = {}
    for layer in (SHARED, PRESETS[config.preset], data.settings, _nested(config.train), row.settings):
        values = _merged(values, layer)
    values |= {"steps": config.steps} if config.steps else {}
    values |= {"supervision": gamma, "seed": seed, "tile_cache": storage.join(config.out, TILE_CACHE)}
    values.setdefault("validate_every", max(1, int(values["steps"]) // 3))
    try:
        made = TrainConfig.model_validate({**values, "out": config.out})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--train {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    # The last part of the name tells other settings apart.
    described = json.dumps(TrainConfig.identity(made.saved()), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    name = f"{data.name}-{made.method}-{gamma:g}-{seed}-{digest}"
    return made.model_copy(update={"out": storage.join(config.out, CELLS, name)})


def _merged(values: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    """Settings with another layer over them, group by group."""
    merged = dict(values)
    for name, value in layer.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _nested(flat: dict[str, str]) -> dict[str, Any]:
    """Settings with dotted names as nested groups."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.replace("-", "_").split(".")
        inner: Any = {last: value}
        for group in reversed(groups):
            inner = {group: inner}
        nested = _merged(nested, inner)
    return nested
