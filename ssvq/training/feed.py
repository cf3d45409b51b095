"""Ray Data feeds the training: CPU tasks make the batches of coming steps while the model works on one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ssvq.training.sampling import BatchPlan, make_batch

TASK_BYTES = 32 * 2**20  # samples that one task makes before it returns
MAX_STEPS_IN_TASK = 16


def stream_batches(
    plan: BatchPlan,
    start: int,
    stop: int,
    rank: int,
    world_size: int,
    *,
    loaders: int,
    placement: dict[str, Any] | None = None,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """This rank's batches of steps start .. stop in order: normal and anomalous, uint8 (n, size, size, 3). `loaders`
    tasks at a time make them, on nodes that the options `placement` allow.
    """
    if start >= stop:
        return
    sample_bytes = 3 * plan.sample_size**2
    step_bytes = sample_bytes * (plan.normal_in_batch + plan.anomalous_in_batch) // world_size
    steps_in_task = max(1, min(MAX_STEPS_IN_TASK, TASK_BYTES // step_bytes))
    plan_ref = ray.put(plan)

    def load(steps: pa.Table) -> pa.Table:
        plan = ray.get(plan_ref)
        batches = [make_batch(plan, start + step, rank, world_size) for step in steps["id"].to_pylist()]
        columns = zip(("normal", "anomalous"), zip(*batches, strict=True), strict=True)
        return pa.table({name: pa.array([b.tobytes() for b in batch], pa.large_binary()) for name, batch in columns})

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    steps = ray.data.range(stop - start, override_num_blocks=-(-(stop - start) // steps_in_task))
    batches = steps.map_batches(
        load,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
        compute=ray.data.TaskPoolStrategy(size=loaders),
        **(placement or {}),
    )
    shape = (-1, plan.sample_size, plan.sample_size, 3)
    for batch in batches.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
        normal, anomalous = (
            np.frombuffer(batch[name][0].as_buffer(), np.uint8).reshape(shape) for name in ("normal", "anomalous")
        )
        yield normal, anomalous
