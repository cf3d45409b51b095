"""The training loop that every worker runs; under Ray Train each worker is one rank of DDP."""

import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import safetensors.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ray.train.torch import prepare_model

from ssvq.config import TrainConfig
from ssvq.evaluation.metrics import auroc
from ssvq.imagery.grid import CELL
from ssvq.imagery.tiles import valid_cells
from ssvq.methods import DEFAULT_METHOD, build_method
from ssvq.methods.base import Method, method_config
from ssvq.model.bundle import WEIGHTS, Preprocessing, encode_weights, sha256
from ssvq.model.precision import autocast, resolve_device, resolve_precision
from ssvq.scoring.scorer import TileScorer, normalise
from ssvq.training.feed import stream_batches
from ssvq.training.sampling import BatchPlan, TileRef
from ssvq.training.tile_cache import read_tile

STATE, RECORD = "state.pt", "record.json"  # beside the weights, which are the bundle's own file


@dataclass(frozen=True)
class TrainTask:
    """What a worker is given."""

    config: TrainConfig
    plan: BatchPlan
    validation: list[TileRef]
    validation_labels: NDArray[np.bool_]
    preprocessing: Preprocessing
    progress: Callable[[dict[str, float]], None]
    """Called on rank 0 after each step with the figures of the step."""


class DivergedError(Exception):
    """The loss is no longer a finite number."""


def train_worker(task: TrainTask) -> None:
    """Train from the last checkpoint, or from the start, to the last step, reporting a checkpoint at every
    validation. The last one carries the scores of all validation tiles.
    """
    config = task.config
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    torch.manual_seed(config.seed)

    method = build_method(DEFAULT_METHOD, method_config(config)).to(device)
    optimiser = torch.optim.Adam(method.parameters(), lr=config.optimiser.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    first_step = _resume(method, optimiser, scaler, device)
    batches = stream_batches(task.plan, first_step, config.steps, rank, world_size, config.loaders)

    def to_device(samples: NDArray[np.uint8]) -> torch.Tensor:
        return normalise(torch.from_numpy(samples.copy()).to(device, non_blocking=True), task.preprocessing)

    if first_step == 0:
        first = next(batches)
        with autocast(precision, device):
            method.start(to_device(first[0]), config.seed)
        batches = itertools.chain([first], batches)
    model = prepare_model(method, move_to_device=False, parallel_strategy_kwargs={"broadcast_buffers": False})
    started = time.monotonic()
    for step, (normal, anomalous) in enumerate(batches, start=first_step):
        method.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        with autocast(precision, device):
            terms = model(to_device(normal), to_device(anomalous))
        if not torch.isfinite(terms["loss"]):
            raise DivergedError(f"the loss is {terms['loss'].item()} at step {step + 1}")
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(terms["loss"]).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(method.parameters(), config.optimiser.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        record = {name: float(value) for name, value in terms.items()} | method.after_step(step, config.seed)
        record["steps_per_second"] = (step + 1 - first_step) / (time.monotonic() - started)
        if rank == 0:
            task.progress({"step": step + 1, **record})
        if (step + 1) % config.validate_every == 0 and step + 1 < config.steps:
            _validate_and_report(task, method, optimiser, scaler, step + 1, record)
    _validate_and_report(task, method, optimiser, scaler, config.steps, {})


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step, counted from 0."""
    base = config.optimiser.learning_rate
    if config.optimiser.schedule == "constant":
        return base
    return base * (1 + math.cos(math.pi * step / config.steps)) / 2


def _resume(
    method: Method, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, device: torch.device
) -> int:
    """Load the last checkpoint, if there is one. Returns the step to go on from."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        state = torch.load(Path(folder, STATE), map_location=device, weights_only=True)
        method.load_state_dict(safetensors.torch.load_file(Path(folder, WEIGHTS)))
    optimiser.load_state_dict(state["optimiser"])
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"].cpu())
    return int(state["step"])


def _validate_and_report(
    task: TrainTask,
    method: Method,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    step: int,
    record: dict[str, float],
) -> None:
    """Score validation tiles on all ranks, and report a checkpoint from rank 0."""
    config, last = task.config, step == task.config.steps
    check_in_step(method)
    chosen = np.arange(len(task.validation))
    if not last:
        chosen = np.sort(np.random.default_rng(config.seed).permutation(chosen)[: config.validation_tiles])
    scores = _score_tiles(task, method, chosen)
    labels = task.validation_labels[chosen]
    record = {**record, "step": step, "validation_auroc": auroc(scores, labels)}
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(record)
        return
    task.progress(record)
    with tempfile.TemporaryDirectory() as folder:
        state: dict[str, Any] = {
            "optimiser": optimiser.state_dict(),
            "scaler": scaler.state_dict(),
            "random": torch.get_rng_state(),
            "step": step,
        }
        torch.save(state, Path(folder, STATE))
        Path(folder, WEIGHTS).write_bytes(encode_weights(method.state_dict()))
        final = {"scores": scores.tolist(), "anomalous": labels.tolist()} if last else {}
        Path(folder, RECORD).write_text(json.dumps({"metrics": record, "final": final}))
        ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))


def check_in_step(method: Method) -> None:
    """Raise RuntimeError if the ranks do not hold the same weights and codebook, bit for bit: a model of ranks
    that have drifted apart must never become a bundle.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    digests: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(digests, sha256(encode_weights(method.state_dict())))
    if len(set(digests)) > 1:
        raise RuntimeError("the training workers no longer hold the same weights and codebook")


def _score_tiles(task: TrainTask, method: Method, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of validation tiles, shared among the ranks and gathered on all: float64 (n,)."""
    context = ray.train.get_context()
    device = next(method.parameters()).device
    precision = resolve_precision(task.config.precision, device)
    scorer = TileScorer(method, task.preprocessing, 4, device, precision)
    scores = np.zeros(len(chosen))
    mine = range(context.get_world_rank(), len(chosen), context.get_world_size())
    for start in range(0, len(mine), scorer.batch_size):
        rows = mine[start : start + scorer.batch_size]
        tiles = [task.validation[chosen[row]] for row in rows]
        pixels = [read_tile(task.plan.cache, t.file, t.row_group, task.plan.tile_size)[0] for t in tiles]
        scores[rows] = scorer.score(np.stack(pixels), _own_cells(tiles, task.plan.tile_size)).score
    if dist.is_initialized() and context.get_world_size() > 1:
        gathered = torch.from_numpy(scores).to(device)
        dist.all_reduce(gathered)
        scores = gathered.cpu().numpy()
    return scores


def _own_cells(tiles: list[TileRef], tile_size: int) -> NDArray[np.bool_]:
    """Which cells lie within the image and not in the padding of a small one, bool (n, h, w)."""
    own = np.zeros((len(tiles), tile_size, tile_size), bool)
    for plane, tile in zip(own, tiles, strict=True):
        plane[: tile.height, : tile.width] = True
    return valid_cells(own, CELL)
