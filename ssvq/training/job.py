"""The training job: labelled images in, a bundle out."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

import ssvq
from ssvq import storage
from ssvq.config import TrainConfig, training_identity
from ssvq.errors import ExitCode, InputError, images_exit_code
from ssvq.evaluation.metrics import auroc, average_precision, calibrate
from ssvq.imagery.catalog import list_images, pair_masks
from ssvq.imagery.grid import Tiling
from ssvq.methods import DEFAULT_METHOD
from ssvq.methods.base import method_config
from ssvq.model import bundle as bundles
from ssvq.model.bundle import Bundle
from ssvq.ray_session import MIN_LOGICAL_CPUS, gpus_for, ray_session
from ssvq.training.cut import cut_into_cache
from ssvq.training.dataset import TileSets, draw_tile_sets
from ssvq.training.loop import RECORD, DivergedError, TrainTask, train_worker
from ssvq.training.metrics_log import watch_training
from ssvq.training.sampling import BatchPlan, TileRef

CONFIG = "config.json"
CHECKPOINTS, CACHE = "checkpoints", "tile-cache"
CHECKPOINTS_KEPT = 2
WORKER_FAILURES_ALLOWED = 3
FAILURES_SHOWN = 20


def train(config: TrainConfig) -> ExitCode:
    """Run the job. A finished bundle of the same configuration is left alone, an unfinished one is resumed.

    Raises InputError for wrong input, and for an output that another configuration made.
    """
    _check_output(config)
    if bundles.is_finished(config.out):
        bundle = bundles.read_description(config.out)
        print(f"{config.out} is finished (model {bundle.model_id}, {bundle.created_at:%Y-%m-%d %H:%M}): nothing to do.")
        print("To train on other images or with other settings, give another --out.")
        return ExitCode.DONE
    images, missing = pair_masks(list_images(config.images, "--images"), config.masks)
    storage.check_writable(config.out, "--out")
    cache_root = config.tile_cache or storage.join(config.out, CACHE)
    tiling = Tiling(tile_size=config.tile_size, stride=config.tile_size)
    with ray_session(debug=config.debug, min_cpus=config.num_workers + MIN_LOGICAL_CPUS):
        folder, index = cut_into_cache(images, missing, tiling, cache_root)
        _print_failures(index)
        tile_sets = draw_tile_sets(index, config)
        _print_counts(config, tile_sets)
        storage.put_text(storage.join(config.out, CONFIG), json.dumps(config.saved(), indent=2) + "\n")
        checkpoint = _fit(config, _task_data(config, folder, index, tile_sets))
        bundle = _write_bundle(config, tile_sets, storage.base_name(folder), checkpoint)
    storage.remove(storage.join(config.out, CHECKPOINTS))
    if config.tile_cache is None:
        storage.remove(cache_root)
    _print_result(config, bundle)
    return images_exit_code(tile_sets.counts.failed_images, allowed=config.allow_failed_images)


def _check_output(config: TrainConfig) -> None:
    """Raises InputError for an output that another configuration has begun or finished."""
    address = storage.join(config.out, CONFIG)
    try:
        earlier = json.loads(storage.read_text(address))
    except FileNotFoundError:
        if not bundles.is_finished(config.out):
            return
        earlier = bundles.read_description(config.out).training["config"]
    before, now = training_identity(earlier), training_identity(config.saved())
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise InputError(
            f"--out {config.out} was made with other settings ({', '.join(changed)}): give another --out, "
            f"or the settings of {address}"
        )


def _print_failures(index: pa.Table) -> None:
    failures = [row for row in index.to_pylist() if row["error_stage"]]
    for row in failures[:FAILURES_SHOWN]:
        print(f"skipped {row['path']}: {row['error_message']}", file=sys.stderr)
    if len(failures) > FAILURES_SHOWN:
        print(f"... and {len(failures) - FAILURES_SHOWN} more", file=sys.stderr)


def _print_counts(config: TrainConfig, tile_sets: TileSets) -> None:
    counts = tile_sets.counts
    print(
        f"{counts.tiles} tiles of {config.tile_size} px from {counts.images} images ({counts.failed_images} skipped); "
        f"training: {counts.train_normal} normal, {counts.train_anomalous} of {counts.train_anomalous_available} "
        f"anomalous; validation, other images: {counts.validation_normal} normal, "
        f"{counts.validation_anomalous} anomalous",
        flush=True,
    )
    if config.supervision > 0 and counts.train_anomalous == 0:
        print("warning: no labelled anomalous tile is seen: training on normal tiles alone", file=sys.stderr)
    if config.objective.name == "paper":
        print("warning: the paper's objective is unbounded below and diverges; bounded is the default", file=sys.stderr)


def _task_data(config: TrainConfig, folder: str, index: pa.Table, tile_sets: TileSets) -> dict[str, Any]:
    """What the workers train and validate on, as fields of a TrainTask."""

    def refs(rows: np.ndarray) -> list[TileRef]:
        columns = ["file", "row_group", "width", "height"]
        return [TileRef(**row) for row in index.select(columns).take(rows).to_pylist()]

    anomalous = refs(tile_sets.train_anomalous)
    anomalous_in_batch = config.anomalous_in_batch if anomalous else 0
    plan = BatchPlan(
        cache=folder,
        normal=refs(tile_sets.train_normal),
        anomalous=anomalous,
        tile_size=config.tile_size,
        sample_size=config.sample_size,
        anomalous_fraction=config.anomalous_fraction,
        normal_in_batch=config.batch_size - anomalous_in_batch,
        anomalous_in_batch=anomalous_in_batch,
        augment=config.augment,
        seed=config.seed,
    )
    return {
        "config": config,
        "plan": plan,
        "validation": refs(tile_sets.validation),
        "validation_labels": tile_sets.validation_labels,
        "preprocessing": tile_sets.preprocessing,
    }


def _fit(config: TrainConfig, task_data: dict[str, Any]) -> Checkpoint:
    """Run Ray Train to its last step. Running again with the same storage goes on from the last checkpoint."""
    filesystem, path = storage.filesystem(storage.join(config.out, CHECKPOINTS))
    use_gpu = gpus_for(config.device) > 0
    with watch_training(config) as progress:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=TrainTask(**task_data, progress=progress),
            scaling_config=ScalingConfig(num_workers=config.num_workers, use_gpu=use_gpu),
            run_config=RunConfig(
                name="train",
                storage_path=path,
                storage_filesystem=PyFileSystem(FSSpecHandler(filesystem)),
                checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                failure_config=FailureConfig(max_failures=WORKER_FAILURES_ALLOWED),
            ),
        )
        try:
            result = trainer.fit()
        except SystemExit as stop:  # Ray Train's own answer to Ctrl-C, after it has stopped the workers
            raise KeyboardInterrupt from stop
        except ray.train.WorkerGroupError as error:
            raise _explain(error) from error
    if result.checkpoint is None:
        raise RuntimeError("Ray Train ended without a checkpoint")
    return result.checkpoint


def _explain(error: ray.train.WorkerGroupError) -> Exception:
    """The error of a worker that is meant for people, if there is one, else the error itself."""
    for failure in error.worker_failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, InputError):
            return cause
        if isinstance(cause, DivergedError):
            return InputError(
                f"{cause}: lower --optimiser.learning-rate or --optimiser.clip-norm, or use --objective.name bounded; "
                "the last checkpoint is kept"
            )
    return error


def _write_bundle(config: TrainConfig, tile_sets: TileSets, data_fingerprint: str, checkpoint: Checkpoint) -> Bundle:
    """Make the bundle from the last checkpoint."""
    with checkpoint.as_directory() as folder:
        weights = Path(folder, bundles.WEIGHTS).read_bytes()
        record = json.loads(Path(folder, RECORD).read_text())
    scores = np.array(record["final"]["scores"])
    anomalous = np.array(record["final"]["anomalous"], bool)
    settings = method_config(config)
    digest = bundles.sha256(weights)
    bundle = Bundle(
        model_id=bundles.model_id(DEFAULT_METHOD, settings, tile_sets.preprocessing, digest),
        method=DEFAULT_METHOD,
        settings=settings,
        preprocessing=tile_sets.preprocessing,
        weights_sha256=digest,
        calibration=calibrate(scores, anomalous),
        metrics={
            "validation_auroc": auroc(scores, anomalous),
            "validation_average_precision": average_precision(scores, anomalous),
        },
        training={
            "config": config.saved(),
            "counts": tile_sets.counts.as_dict(),
            "data_fingerprint": data_fingerprint,
        },
        created_at=datetime.now(UTC),
        ssvq_version=ssvq.__version__,
    )
    bundles.save_bundle(config.out, bundle, weights)
    return bundle


def _print_result(config: TrainConfig, bundle: Bundle) -> None:
    calibration = bundle.calibration
    print(f"model {bundle.model_id} is in {config.out}")
    print(
        f"validation AUROC {bundle.metrics['validation_auroc']:.3f}; "
        f"threshold {calibration.threshold:.4g} ({calibration.rule})"
    )
