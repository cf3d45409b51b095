"""`ssvq evaluate`: the figures of a model on labelled images that it has not seen."""

import json
import math
import sys
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ssvq.config import EvaluateConfig
from ssvq.errors import ExitCode, ImageError, InputError, images_exit_code
from ssvq.evaluation.metrics import auroc, average_precision, confusion
from ssvq.imagery.catalog import SourceImage, list_images, pair_masks
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import ImagePart, plan_units
from ssvq.model import bundle as bundles
from ssvq.pipeline import inspect_images
from ssvq.progress import Progress
from ssvq.ray_session import ray_session
from ssvq.scoring.stages import score_units


def evaluate(config: EvaluateConfig) -> ExitCode:
    """Print the report. Images that fail are named, counted and left out, and the exit code says so."""
    report = evaluate_model(config)
    if config.json_output:
        print(json.dumps({name: _finite(value) for name, value in report.items()}, indent=2))
    else:
        _print_report(report)
    return images_exit_code(report["failed_images"], allowed=config.allow_failed_images)


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """Score every tile of labelled images and compare with the masks; the keys are those of `--json`.

    A tile is anomalous at or over the share of anomalous pixels that the model was trained with.
    Raises InputError when no image can be used.
    """
    bundle = bundles.read_whole(config.model)
    images, failed = pair_masks(list_images(config.images, "--images"), config.masks)
    tile_size = bundle.preprocessing.tile_size
    with ray_session(debug=config.debug):
        headers, unreadable = inspect_images(images)
        failed.extend(unreadable)
        units = plan_units(headers, Tiling(tile_size=tile_size, stride=tile_size))
        columns, failed_parts = _score(config, units)
    failed.extend(failed_parts)
    failures = {source.path: error for source, error in reversed(failed)}
    for path, error in failures.items():
        print(f"skipped {path}: {error.message}", file=sys.stderr)
    scores, fractions = columns["score"], columns["anomalous_fraction"]
    if len(scores) == 0:
        raise InputError(f"--images {config.images}: no image could be used")
    anomalous = fractions >= bundle.anomalous_fraction
    return {
        "auroc": auroc(scores, anomalous),
        "average_precision": average_precision(scores, anomalous),
        "colour_threshold_auroc": auroc(columns["redness"], anomalous),
        "threshold": bundle.calibration.threshold,
        **confusion(scores, anomalous, bundle.calibration.threshold),
        "tiles": len(scores),
        "normal_tiles": int((~anomalous).sum()),
        "anomalous_tiles": int(anomalous.sum()),
        "images": len(headers) - len({source.path for source, _ in failed_parts}),
        "failed_images": len(failures),
        "model_id": bundle.model_id,
        "anomalous_fraction": bundle.anomalous_fraction,
    }


def _score(
    config: EvaluateConfig, units: list[list[ImagePart]]
) -> tuple[dict[str, np.ndarray], list[tuple[SourceImage, ImageError]]]:
    """Columns over the tiles of all units, and the images that failed on the way."""
    names = ("score", "anomalous_fraction", "redness")
    columns: dict[str, list[float]] = {name: [] for name in names}
    failed = []
    if units:
        scored = score_units(units, config)
        with Progress("scoring", sum(len(part.block) for unit in units for part in unit), "tiles") as progress:
            for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in batch.drop_columns(["score_map"]).to_pylist():
                    part = ImagePart.from_json(row["part"])
                    progress.advance(len(part.block))
                    if row["error_stage"]:
                        failed.append((part.source, ImageError(row["error_stage"], row["error_message"])))
                        continue
                    for name in names:
                        columns[name].extend(row[name])
    return {name: np.array(values) for name, values in columns.items()}, failed


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _print_report(report: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE, show_header=False, show_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in report.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    Console(width=100).print(table)
