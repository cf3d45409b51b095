"""`ssvq evaluate`: the accuracy of a model on labelled images that it has not seen."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from ssvq.errors import ExitCode, ImageError, InputError, images_exit_code, reason_of
from ssvq.evaluation.collect import ScoredTiles, score_labelled
from ssvq.evaluation.figures import clear_tiles, defect_figures, tile_figures
from ssvq.evaluation.report import print_report
from ssvq.evaluation.settings import EvaluateConfig
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.layouts import Found, find_images
from ssvq.imagery.masks import tell_full_masks
from ssvq.io import parquet, storage
from ssvq.logs import FailedImages
from ssvq.methods.build import read_bundle
from ssvq.model.calibration import COLUMNS
from ssvq.model.description import Bundle
from ssvq.model.metrics import auroc
from ssvq.model.score_plot import draw_plot
from ssvq.runtime.session import ray_session


def evaluate(config: EvaluateConfig) -> ExitCode:
    """Print the report. Failed images are named, counted and left out, and the exit code says so."""
    report = evaluate_model(config)
    if config.json_output:
        print(json.dumps(_without_nan(report), indent=2))
    else:
        print_report(report)
    return images_exit_code(report["failed_images"], allowed=config.allow_failed_images)


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """Score every tile of labelled images and compare with the labels. Returns the keys of `--json`; undefined values
    are null.

    Writes plot and predictions if the settings ask for them. A tile is anomalous if its anomalous share reaches that of
    the training; an image that the model takes whole has the label of its layout, if there is one.

    Raises InputError if no image can be used, or if an output cannot be written.
    """
    bundle = read_bundle(config.model)
    _check_outputs(config)
    images, failed = _of_split(config, *find_images(_with_classes(config, bundle)))
    with ray_session(debug=config.debug) if images else nullcontext():
        scored = score_labelled(images, config, bundle)
    failures = _name_failures([*failed, *scored.failed])
    if len(scored.tiles) == 0:
        split = f" of split {config.split}" if config.split else ""
        raise InputError(f"{config.source}: no image{split} could be used")
    masked = [image.path for image in images if image.mask is not None]
    tell_full_masks(scored.tiles["image"].to_pylist(), scored.tiles["anomalous_fraction"].to_numpy(), masked)
    if config.predictions is not None:
        _write_predictions(config.predictions, scored.tiles)
    if config.plot is not None:
        _write_plot(config.plot, scored.tiles, bundle)
    return {
        **_figures(config, bundle, scored),
        "images": len(images) - len({source.path for source, _ in scored.failed}),
        "failed_images": len(failures),
        "model_id": bundle.model_id,
        "whole_images": bundle.preprocessing.whole_images,
        "anomalous_fraction": bundle.anomalous_fraction,
        "threshold_rule": bundle.calibration.deciding.rule,
        "bootstrap": config.bootstrap,
    }


def _of_split(config: EvaluateConfig, images: list[SourceImage], failed: list[tuple[SourceImage, ImageError]]) -> Found:
    """The images of the chosen split, and its failed ones."""
    if config.split is None:
        return images, failed
    of_split = [image for image in images if image.split == config.split]
    return of_split, [(image, error) for image, error in failed if image.split == config.split]


def _with_classes(config: EvaluateConfig, bundle: Bundle) -> EvaluateConfig:
    """The settings with the label meanings of the model's training, unless they set their own."""
    trained = bundle.training["config"]
    names = ("anomalous_classes", "normal_labels")
    return config.model_copy(update={name: getattr(config, name) or trained.get(name) for name in names})


def _figures(config: EvaluateConfig, bundle: Bundle, scored: ScoredTiles) -> dict[str, Any]:
    tiles, pixels = scored.tiles, scored.pixels
    calibration, column = bundle.calibration.deciding, bundle.calibration.decides
    normal_fraction = config.normal_fraction
    if normal_fraction is None:
        normal_fraction = bundle.training["config"].get("normal_fraction")
    clear = None
    if normal_fraction is not None:
        chosen = clear_tiles(tiles, normal_fraction)
        figures = tile_figures(chosen, calibration, config.bootstrap, config.seed, column)
        clear = {"normal_fraction": normal_fraction, **figures}
    return {
        **tile_figures(tiles, calibration, config.bootstrap, config.seed, column),
        "decided_by": column,
        "auroc_by_column": {
            name: auroc(tiles[name].to_numpy(), tiles["anomalous"].to_numpy())
            for name in COLUMNS[: 1 if bundle.calibration.worst is None else 2]
        },
        "pixel_auroc": None if pixels is None else pixels.auroc(),
        "aupro": None if pixels is None else pixels.aupro(),
        "regions": None if pixels is None else pixels.regions,
        "by_defect": defect_figures(tiles, config.bootstrap, config.seed, column),
        "clear_tiles": clear,
    }


def _name_failures(failed: list[tuple[SourceImage, ImageError]]) -> dict[str, ImageError]:
    """The first failure of each image, by path; each is printed."""
    failures = {source.path: error for source, error in reversed(failed)}
    skipped = FailedImages()
    for path, error in failures.items():
        skipped.add(f"skipped {path}: {error.message}", image=path, stage=error.stage, reason=error.message)
    skipped.end()
    return failures


def _check_outputs(config: EvaluateConfig) -> None:
    """Check outputs before any work, so that hours of it are not lost. Raises InputError."""
    if config.plot is not None:
        storage.check_writable(str(config.plot.absolute().parent), "--plot")
    if config.predictions is not None:
        storage.check_writable(config.predictions.rpartition("/")[0], "--predictions")


def _write_predictions(address: str, tiles: pa.Table) -> None:
    try:
        parquet.put(address, tiles)
    except storage.StorageError as error:
        raise InputError(f"--predictions {address} cannot be written: {error}") from None


def _write_plot(path: Path, tiles: pa.Table, bundle: Bundle) -> None:
    try:
        draw_plot(tiles, bundle.calibration.deciding, bundle.calibration.decides).savefig(path, format="png")
    except OSError as error:
        raise InputError(f"--plot {path} cannot be written: {reason_of(error)}") from None


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: undefined values become null."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
