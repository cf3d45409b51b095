"""Runs the training loop in Ray Train's workers, and reports in words why it ended."""

import os
from typing import Any

import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer

from ssvq.errors import InputError
from ssvq.io import storage
from ssvq.runtime.placement import GPU_WAIT, anywhere, gpus_for, leave_out_broken_nodes
from ssvq.training.loop import TrainOutcome, TrainTask, train_worker
from ssvq.training.metrics_log import watch_training
from ssvq.training.settings import TrainConfig
from ssvq.training.tracking.tracking import Tracking

# How often Ray Train polls workers and nodes; at its own 2 and 5 s, a training ends 5 s after its last step.
CHECKPOINTS = "checkpoints"
SECONDS_BETWEEN_LOOKS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1"}

WORKER_FAILURES_ALLOWED = 3

# Failed starts of the workers, a minute each: a cloud needs that long to provide another GPU. Ray Train's own value
# is unlimited.
START_FAILURES_ALLOWED = int(GPU_WAIT / 60)


def fit(config: TrainConfig, data: dict[str, Any], tracking: Tracking) -> TrainOutcome:
    """Run Ray Train to the last step. With the same storage it continues from the last checkpoint.

    It also retries, without the node, if a node fails that can be left out. Raises InputError if the training diverges.
    """
    with watch_training(config, tracking) as progress:
        while True:
            try:
                result = _trainer(config, TrainTask(**data, progress=progress)).fit()
                break
            except SystemExit as stop:  # Ray Train's own answer to Ctrl-C, after it has stopped the workers
                raise KeyboardInterrupt from stop
            except TrainingFailedError as error:
                explained = _explain(error)
                if isinstance(explained, InputError) or not leave_out_broken_nodes():
                    raise explained from error
    outcome = result.return_value
    if not isinstance(outcome, TrainOutcome):
        raise RuntimeError("Ray Train ended without the outcome of its first worker")
    if outcome.diverged is not None:
        kept = "the last good checkpoint is kept" if result.checkpoint else "there is no checkpoint yet"
        raise InputError(
            f"the training diverged: {outcome.diverged}; lower --optimiser.learning-rate or --optimiser.clip-norm"
            + (", or use --objective.name bounded" if config.objective.name == "paper" else "")
            + f"; {kept} in {storage.join(config.out, CHECKPOINTS)}; other settings need another --out"
        )
    return outcome


def _trainer(config: TrainConfig, task: TrainTask) -> TorchTrainer:
    filesystem, path = storage.filesystem(storage.join(config.out, CHECKPOINTS))
    elastic = config.min_workers is not None and config.min_workers < config.num_workers
    workers = (config.min_workers, config.num_workers) if elastic else config.num_workers
    use_gpu = gpus_for(config.device) > 0
    for name, seconds in SECONDS_BETWEEN_LOOKS.items():
        os.environ.setdefault(name, seconds)
    return TorchTrainer(
        train_worker,
        train_loop_config=task,
        # A torch build without NCCL, such as those for CPUs, trains on the CPU even if Ray has GPUs.
        torch_config=TorchConfig(backend="nccl" if use_gpu and torch.distributed.is_nccl_available() else "gloo"),
        # CPU workers take all cores of their node; GPU workers are close together by Ray's default.
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=use_gpu, placement_strategy="PACK" if use_gpu else "SPREAD", **anywhere()
        ),
        run_config=RunConfig(
            name="train",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(filesystem)),
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoints),
            failure_config=FailureConfig(
                max_failures=WORKER_FAILURES_ALLOWED, controller_failure_limit=START_FAILURES_ALLOWED
            ),
        ),
    )


def _explain(error: TrainingFailedError) -> Exception:
    """The error of a worker that is written for people, if there is one, else the error itself."""
    if isinstance(error, WorkerGroupError):
        for failure in error.worker_failures.values():
            cause = getattr(failure, "cause", failure)
            if isinstance(cause, InputError):
                return cause
    return error
