"""Checkpoints of a training: everything needed to continue as if nothing had happened, and the best weights so far.

A checkpoint holds:

- current.safetensors: weights and codebook of the step
- average.safetensors: their moving average, if there is one
- best.safetensors: the scoring weights with the best validation AUROC so far
- state.pt: optimiser, gradient scaler, random states
- record.json: step, first loss, figures of the step and of the best
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist

from ssvq.methods.base import Method
from ssvq.model.bundle import encode_weights, sha256
from ssvq.model.calibration import Column
from ssvq.model.ranks import world_size
from ssvq.training.engine import Engine

CURRENT, AVERAGE, BEST = "current.safetensors", "average.safetensors", "best.safetensors"
STATE, RECORD = "state.pt", "record.json"


@dataclass
class Position:
    """The position of a training, and its best result so far."""

    step: int = 0
    """Steps done."""
    first_loss: float | None = None
    best_step: int = 0
    best_auroc: float | None = None
    """None if no validation tile is anomalous: then the latest weights count as the best."""
    decides: Column = "score"
    """The column of scores that has the best AUROC."""
    best_weights: bytes = field(default=b"", repr=False)

    def offer(self, engine: Engine, step: int, auroc: float | None, decides: Column = "score") -> None:
        """Keep the weights of a step if they are the best, by the AUROC of a column."""
        if auroc is None or self.best_auroc is None or auroc >= self.best_auroc:
            self.best_step, self.best_auroc, self.decides = step, auroc, decides
            self.best_weights = encode_weights(engine.scored.state_dict())


def save_checkpoint(folder: Path, engine: Engine, position: Position) -> None:
    """Write a checkpoint into a folder."""
    state = {
        "optimiser": engine.optimiser.state_dict(),
        "scaler": engine.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all(),
    }
    if engine.average is not None:
        state["averaged_steps"] = engine.average.n_averaged
        (folder / AVERAGE).write_bytes(encode_weights(engine.average.module.state_dict()))
    torch.save(state, folder / STATE)
    (folder / CURRENT).write_bytes(encode_weights(engine.method.state_dict()))
    (folder / BEST).write_bytes(position.best_weights)
    record = {name: value for name, value in asdict(position).items() if name != "best_weights"}
    (folder / RECORD).write_text(json.dumps(record))


def load_checkpoint(folder: Path, engine: Engine) -> Position:
    """Restore an engine from a checkpoint."""
    state = torch.load(folder / STATE, map_location=engine.device, weights_only=True)
    engine.method.load_state_dict(safetensors.torch.load_file(folder / CURRENT))
    engine.optimiser.load_state_dict(state["optimiser"])
    engine.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"].cpu())
    if len(state["cuda_random"]) == torch.cuda.device_count():  # another machine continues, and no draw depends on it
        torch.cuda.set_rng_state_all([random.cpu() for random in state["cuda_random"]])
    if engine.average is not None:
        engine.average.module.load_state_dict(safetensors.torch.load_file(folder / AVERAGE))
        engine.average.n_averaged.copy_(state["averaged_steps"])
    return Position(**json.loads((folder / RECORD).read_text()), best_weights=(folder / BEST).read_bytes())


def load_best(engine: Engine, position: Position) -> Method:
    """Load the best weights so far into the method that scores."""
    engine.scored.load_state_dict(safetensors.torch.load(position.best_weights))
    return engine.scored


def check_in_step(method: Method) -> None:
    """Raise RuntimeError unless all ranks hold the same weights and codebook, bit for bit: ranks that have drifted
    apart must never become a bundle.
    """
    if world_size() == 1:
        return
    digests: list[str | None] = [None] * world_size()
    dist.all_gather_object(digests, sha256(encode_weights(method.state_dict())))
    if len(set(digests)) > 1:
        raise RuntimeError("the training workers no longer hold the same weights and codebook")
