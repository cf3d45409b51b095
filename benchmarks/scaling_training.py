"""What the ranks of a training send each other, in bytes, against the size of the model.

    python -m benchmarks.scaling_training
    unshare --map-root-user --net sh -c 'ip link set lo up; python -m benchmarks.scaling_training'

Two processes (gloo, CPU) take real steps of the default method under DDP, as `ssvq train --num-workers 2` does. Counted
is what a rank gives to each collective of torch.distributed: gradients where DDP hands its buckets over, all else
where the project calls. In a network namespace of its own, as the second command makes, the bytes that pass its
loopback are read beside it, with those of TCP and of what DDP sends by itself. Codes are set anew after every second
step, and count as dead when they are used less than the mean, so that there are some.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from ssvq.config import CodebookSettings, TrainConfig
from ssvq.model.description import Preprocessing
from ssvq.training.checkpoint import check_in_step
from ssvq.training.engine import Engine, mean_over_ranks

RANKS = 2
STEPS = 5
RING_RANKS = (2, 4, 8, 16, 64)
HEAD = (
    "| when | collective | bytes that a rank gives | of the parameters | loopback, both ranks |\n|---|---|---|---|---|"
)
COLLECTIVES = {"all_reduce": 0, "broadcast": 0, "all_gather": 1}
"""Functions of torch.distributed that the project's collectives end in, and which argument is what a rank gives."""


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--crop", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(one_rank, (folder, arguments.batch_size, arguments.crop), nprocs=RANKS)
        found = json.loads(Path(folder, "found.json").read_text())
    parameters, state = found["parameter_bytes"], found["state_bytes"]
    print(f"parameters: {parameters:,} bytes; with the codebook's buffers: {state:,}")
    print(f"batches of {arguments.batch_size} crops of {arguments.crop} pixels, {RANKS} ranks\n")
    print(HEAD)
    for when, (counted, wire) in found["traffic"].items():
        seen = "not read" if wire is None else f"{wire:,.0f}"
        lines = [f"{name} | {size:,.0f} | {size / parameters:.1%}" for name, size in counted.items()]
        for line in lines or ["within DDP | not counted | "]:
            print(f"| {when} | {line} | {seen} |")
            when = seen = ""
    step = sum(found["traffic"]["each step"][0].values())
    print("\n| ranks | a rank sends in a step, by a ring, bytes |\n|---|---|")
    for ranks in RING_RANKS:
        print(f"| {ranks} | {2 * (ranks - 1) / ranks * step:,.0f} |")
    return 0


@dataclass
class Traffic:
    """Bytes given to collectives since the last `take`, by name."""

    counted: Counter[str] = field(default_factory=Counter)
    wire: int | None = None
    gradients: bool = False
    """Whether what is given now are gradients."""

    def count(self, collective: str, given: Tensor) -> None:
        """Note what is given to a collective."""
        self.counted[f"{collective} of gradients" if self.gradients else collective] += given.nbytes

    def take(self, times: int = 1) -> tuple[dict[str, float], float | None]:
        """What was counted, and seen on the loopback, since the last call, each divided by `times`."""
        counted, before = {name: size / times for name, size in self.counted.items()}, self.wire
        self.counted, self.wire = Counter(), loopback_bytes()
        return counted, None if before is None or self.wire is None else (self.wire - before) / times


def loopback_bytes() -> int | None:
    """Bytes that the loopback has carried; None where it may carry those of others too."""
    interfaces = psutil.net_io_counters(pernic=True)
    return interfaces["lo"].bytes_sent if set(interfaces) == {"lo"} else None


def one_rank(rank: int, folder: str, batch_size: int, crop: int) -> None:
    """Train for a few steps; rank 0 writes what it counted."""
    torch.set_num_threads(1)
    config = TrainConfig(
        images="images",
        out="out",
        crop=crop,
        batch_size=batch_size,
        num_workers=RANKS,
        device="cpu",
        codebook=CodebookSettings(reseed_every=2, dead_below=1.0),  # after every second step some code is dead
    )
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    traffic = Traffic()
    engine = Engine(config, Preprocessing(tile_size=config.tile_size, mean=(0.5,) * 3, std=(0.25,) * 3))
    rng = np.random.default_rng(rank)
    share = (batch_size - config.anomalous_in_batch) // RANKS, config.anomalous_in_batch // RANKS
    normal, anomalous = (rng.integers(0, 256, (n, crop, crop, 3), np.uint8) for n in share)
    rows: dict[str, Any] = {}

    def row(name: str, act: Callable[[], object], times: int = 1) -> None:
        dist.barrier()
        traffic.take()
        for _ in range(times):
            act()
        rows[name] = traffic.take(times)
        dist.barrier()

    with counting(traffic):
        row("the start: colours, k-means", lambda: engine.start(normal))
        row("the start: DDP's copy of the weights", partial(wrap, engine, traffic))
        engine.step(0, normal, anomalous)  # after it DDP puts its buckets in the order of the gradients, once
        row("each step", lambda: engine.step(2, normal, anomalous), STEPS)
        figures = engine.step(4, normal, anomalous)
        row("a step that is logged (--log-every), beside", lambda: mean_over_ranks(figures))
        row("a validation (--validate-every): weights compared", lambda: check_in_step(engine.method))
        row("a step that sets codes anew (--codebook.reseed-every)", lambda: engine.step(1, normal, anomalous))
    if rank == 0:
        parameters = sum(parameter.nbytes for parameter in engine.method.parameters())
        state = sum(tensor.nbytes for tensor in engine.method.state_dict().values())
        found = {"parameter_bytes": parameters, "state_bytes": state, "traffic": rows}
        Path(folder, "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def wrap(engine: Engine, traffic: Traffic) -> None:
    """DDP as the training loop has it, with its gradients all-reduced in Python, where they are counted."""
    unused = engine.method.unused_weights
    model = DistributedDataParallel(engine.method, broadcast_buffers=False, find_unused_parameters=unused)

    def reduce(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        traffic.gradients = True
        try:
            return allreduce_hook(group, bucket)
        finally:
            traffic.gradients = False

    model.register_comm_hook(dist.group.WORLD, reduce)
    engine.model = model


@contextmanager
def counting(traffic: Traffic) -> Iterator[None]:
    """Count what the project, and torch's own functions of objects, give to collectives."""
    with ExitStack() as stack:
        for name in COLLECTIVES:
            original = getattr(distributed_c10d, name)

            @wraps(original)
            def counted(*args: Any, name: str = name, original: Callable[..., Any] = original, **settings: Any) -> Any:
                traffic.count(name, args[COLLECTIVES[name]])
                return original(*args, **settings)

            for module in (dist, distributed_c10d):
                stack.enter_context(patch.object(module, name, counted))
        yield


if __name__ == "__main__":
    sys.exit(main())
