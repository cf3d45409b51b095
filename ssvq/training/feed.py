"""Feeds the training from Ray Data: CPU tasks prepare coming batches while the model works on one."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ssvq.runtime.placement import here
from ssvq.training.sampling import Batch, BatchPlan, make_batch

TASK_BYTES = 32 * 2**20  # samples that one task prepares before it returns
MAX_STEPS_IN_TASK = 16
MAX_TASKS = 5000  # tasks before the first step; longer trainings have more steps in a task


def stream_batches(plan: BatchPlan, start: int, stop: int, rank: int, world_size: int, loaders: int) -> Iterator[Batch]:
    """This rank's batches of the steps from start to stop, in order.

    `loaders` tasks prepare them at a time, on the node of this process. They take no logical CPUs, since the training's
    workers, which wait for them, may hold all.
    """
    if start >= stop:
        return
    sample_bytes = 3 * plan.sample_size**2
    step_bytes = sample_bytes * (plan.normal_in_batch + plan.anomalous_in_batch) // world_size
    steps_in_task = max(1, min(MAX_STEPS_IN_TASK, TASK_BYTES // step_bytes), -(-(stop - start) // MAX_TASKS))
    plan_ref = ray.put(plan)

    def load(task: pa.Table) -> Iterator[pa.Table]:
        plan = ray.get(plan_ref)
        first = task["first"][0].as_py()
        for step in range(first, min(first + steps_in_task, stop)):
            batch = make_batch(plan, step, rank, world_size)
            yield pa.table({name: _binary(array) for name, array in batch._asdict().items()})

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    tasks = [{"first": first} for first in range(start, stop, steps_in_task)]
    batches = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        load,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=loaders),
        **here(),
    )
    shape = (-1, plan.sample_size, plan.sample_size, 3)
    for batch in batches.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
        normal, anomalous = (
            np.frombuffer(batch[name][0].as_buffer(), np.uint8).reshape(shape) for name in ("normal", "anomalous")
        )
        shares = None
        if plan.cell is not None:
            side = plan.sample_size // plan.cell
            shares = np.frombuffer(batch["shares"][0].as_buffer(), np.float32).reshape(-1, side, side)
        yield Batch(normal, anomalous, shares)


def _binary(array: NDArray[np.generic] | None) -> pa.Array:
    return pa.array([None if array is None else array.tobytes()], pa.large_binary())
