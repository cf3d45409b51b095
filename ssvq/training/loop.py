"""The training loop of each worker of Ray Train, which is one rank of DDP."""

import itertools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import ray.train
import torch
from numpy.typing import NDArray
from ray.train.torch import prepare_model

from ssvq.model.calibration import Column
from ssvq.model.description import Preprocessing
from ssvq.runtime.placement import node_cpus
from ssvq.training.checkpoint import Position, check_in_step, load_best, load_checkpoint, save_checkpoint
from ssvq.training.engine import Engine, divergence, learning_rate, mean_over_ranks
from ssvq.training.feed import stream_batches
from ssvq.training.sampling import BatchPlan, samples_to_fit
from ssvq.training.settings import TrainConfig
from ssvq.training.splits import CALIBRATION, TEST, VALIDATION
from ssvq.training.starting_weights import starting_weights
from ssvq.training.validation import HeldOutTiles, better_column, score_held_out


@dataclass(frozen=True)
class TrainTask:
    """The work of a worker."""

    config: TrainConfig
    plan: BatchPlan
    validation: HeldOutTiles
    calibration: HeldOutTiles
    test: HeldOutTiles
    preprocessing: Preprocessing
    progress: Callable[[dict[str, float]], None]
    """Called on rank 0 with the figures of a step, every `log_every` steps."""


@dataclass(frozen=True)
class TrainOutcome:
    """The result of a training: the best weights and the scores of the held-out tiles; or the reason why it stopped."""

    weights: bytes = b""
    best_step: int = 0
    decides: Column = "score"
    """The column by which the best weights were chosen."""
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By split (validation, calibration, test): `score` and `score_worst`, float64 (n, 2)."""
    diverged: str | None = None


def train_worker(task: TrainTask) -> TrainOutcome:
    """Train from the last checkpoint, or from the start, to the last step, with a checkpoint at every validation.

    A loss that diverges ends the training on all ranks, without an error that Ray Train would retry.
    """
    config = task.config
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, node_cpus() // context.get_local_world_size()))
    engine = Engine(config, task.preprocessing)
    position = _resume(engine)
    if position.step == 0 and engine.method.backbone is not None:
        engine.load_network(starting_weights(config.out).tensors)
    if engine.method.takes_steps:
        diverged = _take_steps(task, engine, position, rank, world_size)
        if diverged is not None:
            return TrainOutcome(diverged=diverged)
    if engine.method.fits_samples:
        _fit(task, engine, position)
    method = load_best(engine, position)
    scores = {
        split: score_held_out(tiles, task.plan.cache, method, task.preprocessing, engine.precision)
        for split, tiles in (
            (VALIDATION, task.validation),
            (CALIBRATION, task.calibration),
            (TEST, task.test),
        )
    }
    return TrainOutcome(position.best_weights, position.best_step, position.decides, scores)


def _take_steps(task: TrainTask, engine: Engine, position: Position, rank: int, world_size: int) -> str | None:
    """Train from a position to the last step. Returns why the loss counts as diverged, if it does."""
    config = task.config
    batches = stream_batches(task.plan, position.step, config.steps, rank, world_size, config.loaders)
    if position.step == 0:
        first = next(batches)
        engine.start(first.normal)
        batches = itertools.chain([first], batches)
    engine.model = prepare_model(
        engine.method,
        move_to_device=False,
        parallel_strategy_kwargs={
            "broadcast_buffers": False,
            "find_unused_parameters": engine.method.unused_weights,
        },
    )
    started, since = time.time(), position.step
    for step, batch in enumerate(batches, start=position.step):
        terms = engine.step(step, *batch)
        done = step + 1
        validates = done % config.validate_every == 0 or done == config.steps
        if not validates and done % config.log_every and done > 1:
            continue
        record = {"step": done, **mean_over_ranks(terms)}
        position.first_loss = record["loss"] if position.first_loss is None else position.first_loss
        problem = divergence(record["loss"], position.first_loss)
        if problem is not None:
            return f"{problem} at step {done}"
        record["learning_rate"] = learning_rate(config.optimiser, step, config.steps)
        record["time"] = time.time()
        record["samples_per_second"] = config.batch_size * (done - since) / (record["time"] - started)
        if validates:
            record |= _validate(task, engine, position, done)
            started, since = time.time(), done
        if rank == 0:
            task.progress(record)
        if validates:
            _report(engine, position, record, rank)
    return None


def _fit(task: TrainTask, engine: Engine, position: Position) -> None:
    """Fit to samples of the training; the fitted method counts as the best."""
    normal, anomalous = samples_to_fit(task.plan, engine.scored.fits_samples)
    engine.fit(normal, anomalous)
    check_in_step(engine.scored)
    position.offer(engine, task.config.steps if engine.method.takes_steps else 0, None)


def _resume(engine: Engine) -> Position:
    """Load the last checkpoint, if there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Position()
    with checkpoint.as_directory() as folder:
        return load_checkpoint(Path(folder), engine)


def _validate(task: TrainTask, engine: Engine, position: Position, done: int) -> dict[str, float]:
    """Score validation tiles on all ranks, and keep the weights if they are the best so far."""
    check_in_step(engine.method)
    position.step = done
    if not engine.scored.ready:
        return {}
    scores = score_held_out(task.validation, task.plan.cache, engine.scored, task.preprocessing, engine.precision)
    decides, figure = better_column(scores, task.validation.anomalous, task.config.decide_by)
    position.offer(engine, done, None if math.isnan(figure) else figure, decides)
    return {} if math.isnan(figure) else {"validation_auroc": figure}


def _report(engine: Engine, position: Position, record: dict[str, float], rank: int) -> None:
    """Report a checkpoint from rank 0; the other ranks wait."""
    if rank != 0:
        ray.train.report(record)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), engine, position)
        ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))
