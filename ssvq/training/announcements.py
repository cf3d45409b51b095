"""What a training prints about its images and tiles before it begins."""

import pyarrow as pa

from ssvq import logs
from ssvq.errors import InputError
from ssvq.logs import FailedImages
from ssvq.methods.build import method_class
from ssvq.training.dataset import TileSets
from ssvq.training.settings import TrainConfig


def print_failures(index: pa.Table) -> None:
    failures = [row for row in index.to_pylist() if row["error_stage"]]
    skipped = FailedImages()
    for row in failures:
        path, stage, reason = (row[name] for name in ("path", "error_stage", "error_message"))
        skipped.add(f"skipped {path}: {reason}", image=path, stage=stage, reason=reason)
    skipped.end()


def print_counts(config: TrainConfig, tile_sets: TileSets) -> None:
    counts = tile_sets.counts
    kind = f"whole images as {config.tile_size} px" if config.whole_images else f"tiles of {config.tile_size} px"
    lines = [
        f"{counts.tiles} {kind} from {counts.images} images ({counts.failed_images} images skipped); left out: "
        f"{counts.partly_valid_tiles_left_out} partly valid, "
        f"{counts.tiles_between_fractions_left_out} neither normal nor anomalous",
        f"  training      {counts.train_normal:>7} of {counts.train_normal_available} normal, "
        f"{counts.train_anomalous} of {counts.train_anomalous_available} anomalous",
        f"  validation    {counts.validation_normal:>7} normal, {counts.validation_anomalous} anomalous",
        f"  calibration   {counts.calibration_normal:>7} normal, {counts.calibration_anomalous} anomalous",
    ]
    if counts.labelled_normal or counts.labelled_anomalous:
        lines.insert(
            2, f"    of these by hand {counts.labelled_normal:>4} normal, {counts.labelled_anomalous} anomalous"
        )
    if counts.test_normal or counts.test_anomalous:
        lines.append(f"  test, unused  {counts.test_normal:>7} normal, {counts.test_anomalous} anomalous")
    print("\n".join(lines), flush=True)
    anomalies = method_class(config.method).anomalies
    if counts.train_anomalous == 0:
        if anomalies == "needed":
            raise InputError(f"--method {config.method} needs labelled anomalous tiles, and there are none")
        if config.supervision > 0 and anomalies == "optional":
            logs.warning("warning: there is no labelled anomalous tile: training on normal tiles only")
    elif anomalies == "unused":
        logs.warning(f"--method {config.method} learns from normal tiles alone")
    tiles, most = counts.train_normal + counts.train_anomalous, config.kernel.samples
    if "kernel" in method_class(config.method).sections and tiles > most:
        logs.warning(f"warning: --method {config.method} is fitted to {most} of them (--kernel.samples)")
    if config.objective.name == "paper" and "objective" in method_class(config.method).sections:
        logs.warning("warning: the paper's objective is unbounded below and diverges; bounded is the default")
