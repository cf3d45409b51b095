"""Connecting to Ray: the cluster that the environment names, else one started on this machine."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.data

from ssvq import logs, storage
from ssvq.config import Device
from ssvq.errors import InputError

# Reader, scorer and writer tasks overlap, so logical CPUs may exceed real ones on a small machine; each
# process sets its number of threads itself.
MIN_LOGICAL_CPUS = 4

# Ray Data reads ahead until its share of the object store is full: by Ray's default a third of the machine. A block
# for each task and a few between them keep every stage busy.
BLOCK_BYTES = 128 * 2**20
QUEUED_BLOCKS = 4

ROLE = "ssvq/role"  # label of a node: reader, scorer or trainer
GPU_WAIT = 900.0  # seconds: what a cloud takes for a machine with a GPU, and to pull an image


@contextmanager
def ray_session(*, debug: bool, min_cpus: int = MIN_LOGICAL_CPUS) -> Iterator[None]:
    """Connect to the cluster of `RAY_ADDRESS` (set within `ray job submit`), or start Ray on this machine and
    stop it afterwards. A connection that is already there is used and kept.

    Raises InputError when `RAY_ADDRESS` names a cluster that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    if not debug:
        _quieten()
    quiet: dict[str, Any] = {"log_to_driver": debug, "logging_level": logging.INFO if debug else logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with nullcontext() if debug else _silent_stderr():
            if address:
                ray.init(runtime_env=_worker_environment(), **quiet)
            else:
                cpus = max(os.cpu_count() or 1, min_cpus)
                store = (cpus + QUEUED_BLOCKS) * BLOCK_BYTES
                ray.init(num_cpus=cpus, object_store_memory=store, include_dashboard=False, **quiet)
    except ConnectionError as error:
        raise InputError(f"RAY_ADDRESS={address}: no Ray cluster answers ({error})") from None
    if callable(on_sigterm):  # Ray has set its own, which would end the process with code 15
        signal.signal(signal.SIGTERM, on_sigterm)
    logs.as_json("ray")  # after Ray has set up its own
    try:
        yield
    finally:
        ray.shutdown()


def _worker_environment() -> dict[str, dict[str, str]] | None:
    """What the workers of a cluster, which do not inherit the environment of this process, are handed of it. Never
    credentials: they would be shown with the job's description.
    """
    names = (storage.TIMEOUT_VARIABLE, logs.INHERITED)
    variables = {name: os.environ[name] for name in names if name in os.environ}
    if not variables:
        return None
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # else a job submitted with the variable is an error
    return {"env_vars": variables}


def _quieten() -> None:
    """Keep Ray's own talk off the terminal, where it would bury ours; its log files and --debug have it."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are exceptions too, which we report
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what Ray's C++ side prints while it starts, past Python's logging; failures are exceptions."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def gpus_for(device: Device) -> int:
    """GPUs of the connected cluster that a job on this device may use.

    Raises InputError when CUDA is asked for and the cluster has no GPU.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and gpus == 0 and os.environ.get("RAY_ADDRESS"):
        gpus = _wait_for_gpus()
    if device == "cuda" and gpus == 0:
        raise InputError("--device cuda: this cluster has no GPU; use --device cpu or auto")
    return 0 if device == "cpu" else gpus


def _wait_for_gpus() -> int:
    """Ask a cluster that may have been scaled to nothing for a GPU. Returns its GPUs, 0 where none came."""
    logs.info(f"no GPU yet: waiting up to {GPU_WAIT / 60:.0f} minutes for one")
    ask = ray.remote(num_cpus=0, num_gpus=1)(lambda: None).remote()
    ray.wait([ask], timeout=GPU_WAIT)
    ray.cancel(ask, force=True)
    return int(ray.cluster_resources().get("GPU", 0))


def cpu_scorers() -> int:
    """Scorers that a cluster without GPUs takes: one for each node that works on a CPU (a head may not), and never so
    many that no CPU is left to read for them.
    """
    cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return max(1, min(sum(number >= 1 for number in cpus), int(sum(cpus)) - 1))


def node_cpus() -> int:
    """CPUs of this node. A container may have fewer than its machine shows, and logical ones may exceed the real."""
    here = ray.get_runtime_context().get_node_id()
    known = next((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] == here), 0)
    return max(1, min(int(known) or 1, os.cpu_count() or 1))


def readers() -> dict[str, Any]:
    """Options of tasks that read images: they prefer nodes with the label `ssvq/role` reader, where there are any, so
    that the CPUs beside the GPUs stay free for the scorers.
    """
    if not any(node["Alive"] and node.get("Labels", {}).get(ROLE) == "reader" for node in ray.nodes()):
        return {}
    return {"label_selector": {ROLE: "reader"}, "fallback_strategy": [{"label_selector": {}}]}
