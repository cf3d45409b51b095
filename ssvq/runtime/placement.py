"""Where in the cluster work may run: GPUs and scorers, reading nodes, and nodes that are left out."""

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from ssvq import logs
from ssvq.errors import InputError
from ssvq.settings import Device

ROLE = "ssvq/role"  # label of a node: reader, scorer or trainer
NODE_ID = "ray.io/node-id"  # label that Ray gives to each node
GPU_WAIT = 900.0  # seconds that a cloud needs for a GPU machine and its image
SHARE_OF_STORE, SMALLEST_BLOCK, LARGEST_BLOCK = 0.2, 24 * 2**20, 192 * 2**20
CHECK_SECONDS, CHECK_RETRIES, CHECK_BYTES = 30.0, 2, 2**16

_left_out: set[str] = set()  # ids of nodes; `ray_session`, which owns the connection to their cluster, clears it


def write_a_file() -> None:
    """Write a temporary file. Raises OSError if the disk is full or not writable."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(CHECK_BYTES))
        file.flush()


def leave_out_broken_nodes(work: Callable[[], None] = write_a_file) -> bool:
    """Start a process on each node and do a little work there.

    A node where that fails, for instance on a full disk, would take task after task and fail each. This process places
    nothing more on it. Nodes that are only slow to answer are kept. Returns whether a broken node was found. Raises
    OSError if no node is left.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _nodes()}
    check = ray.remote(num_cpus=0, max_retries=CHECK_RETRIES)(work)
    checks = {check.options(label_selector={NODE_ID: node}).remote(): node for node in nodes}
    answered, silent = ray.wait(list(checks), num_returns=len(checks), timeout=CHECK_SECONDS)
    for task in silent:
        ray.cancel(task, force=True)
    broken = {checks[task]: reason for task in answered if (reason := _why_broken(task)) is not None}
    for node, reason in broken.items():
        logs.warning(f"warning: node {nodes[node]} is left out: {reason}", node=nodes[node])
    if nodes and broken.keys() >= nodes.keys():
        raise OSError(f"no node of this cluster can work: {next(iter(broken.values()))}")
    leave_out(broken)
    return bool(broken)


def leave_out(nodes: Iterable[str]) -> None:
    """Place nothing more on these nodes, by id, until the connection ends (`forget_nodes`)."""
    _left_out.update(nodes)


def _why_broken(check: ray.ObjectRef) -> str | None:
    try:
        ray.get(check)
    except WorkerCrashedError:
        return "no process starts there (is its disk full?)"
    except RayTaskError as error:
        return f"no file can be written there ({error.cause})"
    except RayError:
        return None  # the node has left: Ray itself places nothing more on it
    return None


def forget_nodes() -> None:
    """Leave out no node any more: the connection to their cluster has ended."""
    _left_out.clear()


def _nodes() -> list[dict[str, Any]]:
    """Living nodes that are not left out."""
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in _left_out]


def anywhere() -> dict[str, Any]:
    """Options of a task or actor that may run on any node that is not left out."""
    return {"label_selector": _not_left_out()} if _left_out else {}


def here() -> dict[str, Any]:
    """Options of a task that runs on this process's node."""
    return {"label_selector": {NODE_ID: ray.get_runtime_context().get_node_id()}}


def _not_left_out() -> dict[str, str]:
    return {NODE_ID: f"!in({','.join(sorted(_left_out))})"} if _left_out else {}


def gpus_for(device: Device) -> int:
    """GPUs of the connected cluster that a job on this device may use.

    Raises InputError if CUDA is asked for and the cluster has no GPU.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and gpus == 0 and os.environ.get("RAY_ADDRESS"):
        gpus = _wait_for_gpus()
    if device == "cuda" and gpus == 0:
        raise InputError("--device cuda: this cluster has no GPU; use --device cpu or auto")
    return 0 if device == "cpu" else gpus


def _wait_for_gpus() -> int:
    """Ask a cluster that may have scaled to zero for a GPU. Returns its GPUs, 0 if none came."""
    logs.info(f"no GPU yet: waiting for up to {GPU_WAIT / 60:.0f} minutes for one")
    ask = ray.remote(num_cpus=0, num_gpus=1)(lambda: None).remote()
    ray.wait([ask], timeout=GPU_WAIT)
    ray.cancel(ask, force=True)
    return int(ray.cluster_resources().get("GPU", 0))


def share_of_cpus(cpus: float) -> dict[str, Any]:
    """Options of a Ray Data stage whose tasks take this many CPUs each: at most a sixteenth of all CPUs, or two tasks.

    Ray Data divides CPUs among stages as if each needed as many, unless a stage states its maximum. Without that, 3 of
    16 CPUs read images.
    """
    total = ray.cluster_resources().get("CPU", 1)
    return {"num_cpus": cpus, "compute": ray.data.TaskPoolStrategy(size=max(2, int(total / 16 / cpus)))}


def planners() -> int:
    """Number of tasks that read headers at a time: more if there are more readers to supply."""
    return max(1, int(ray.cluster_resources().get("CPU", 1) / 8))


def block_bytes() -> int:
    """Largest bytes of pixels in a block: every CPU of a node can read two at a time within the reading stage's
    share of the object store.
    """
    resources = [node["Resources"] for node in _nodes() if node["Resources"].get("CPU", 0) >= 1]
    shares = [SHARE_OF_STORE * own.get("object_store_memory", 0) / own["CPU"] for own in resources]
    return int(min(max(min(shares, default=0), SMALLEST_BLOCK), LARGEST_BLOCK))


def cpu_scorers() -> int:
    """Scorers of a cluster without GPUs: one for each node that works on a CPU (a head may not), leaving CPUs for
    reading.
    """
    cpus = [node["Resources"].get("CPU", 0) for node in _nodes()]
    return max(1, min(sum(number >= 1 for number in cpus), int(sum(cpus)) - 1))


def node_cpus() -> int:
    """CPUs of this node. A container may have fewer than its machine shows, and logical ones may exceed real ones."""
    own = ray.get_runtime_context().get_node_id()
    known = next((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] == own), 0)
    return max(1, min(int(known) or 1, os.cpu_count() or 1))


def readers() -> dict[str, Any]:
    """Options of tasks that read images. They prefer nodes with the label `ssvq/role` reader, if there are any, so
    that CPUs beside GPUs stay free for the scorers.
    """
    if not any(node.get("Labels", {}).get(ROLE) == "reader" for node in _nodes()):
        return anywhere()
    return {
        "label_selector": {ROLE: "reader"} | _not_left_out(),
        "fallback_strategy": [{"label_selector": _not_left_out()}],
    }
