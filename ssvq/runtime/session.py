"""Connects to Ray: to the cluster of the environment, or to one started on this machine."""

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

from ssvq import logs
from ssvq.errors import InputError
from ssvq.io import storage
from ssvq.runtime import placement

# Reader, scorer and writer tasks overlap, so logical CPUs may exceed real ones on a small machine; each
# process sets its number of threads itself.
MIN_LOGICAL_CPUS = 4

# Ray Data reads ahead until its share of the object store is full: by default a third of the machine. Blocks for each
# task and a few in between keep every stage busy.
BYTES_OF_A_TASK = 256 * 2**20
QUEUED_TASKS = 4
SHARE_OF_MEMORY = 0.3

# Ray ends worker processes that are idle for a second if there are more than CPUs. Each has a decoding process that
# takes seconds to start. Set for nodes in cluster/ too.
NODE_SETTINGS = {"RAY_idle_worker_killing_time_threshold_ms": "600000"}


@contextmanager
def ray_session(*, debug: bool, min_cpus: int = MIN_LOGICAL_CPUS) -> Iterator[None]:
    """Connect to the cluster of `RAY_ADDRESS` (set within `ray job submit`), or start Ray on this machine and stop it
    afterwards.

    An existing connection is used and kept. Raises InputError if no cluster answers at `RAY_ADDRESS`, and OSError if
    none of its nodes works.
    """
    if ray.is_initialized():
        yield
        return
    if not debug:
        _quieten()
    address = os.environ.get("RAY_ADDRESS")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with nullcontext() if debug else _silent_stderr():
            for name, value in NODE_SETTINGS.items():
                os.environ.setdefault(name, value)
            ray.init(**connection(address, debug=debug, min_cpus=min_cpus))
    except ConnectionError as error:
        raise InputError(f"RAY_ADDRESS={address}: no Ray cluster answers ({error})") from None
    if callable(on_sigterm):  # Ray has set its own, which would end the process with code 15
        signal.signal(signal.SIGTERM, on_sigterm)
    logs.as_json("ray")  # after Ray has set up its own
    try:
        if address:
            placement.leave_out_broken_nodes()
        yield
    finally:
        ray.shutdown()
        placement.forget_nodes()


def connection(address: str | None, *, debug: bool, min_cpus: int = MIN_LOGICAL_CPUS) -> dict[str, Any]:
    """Options of `ray.init`: connect to the cluster at an address, or start Ray on this machine."""
    quiet: dict[str, Any] = {"log_to_driver": debug, "logging_level": logging.INFO if debug else logging.ERROR}
    if address:
        return {"runtime_env": _worker_environment(), **quiet}
    cpus = max(os.cpu_count() or 1, min_cpus)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    store = min((cpus + QUEUED_TASKS) * BYTES_OF_A_TASK, int(SHARE_OF_MEMORY * memory))
    # A separate Ray, also if another runs on this machine or died and left its address behind.
    local = {"address": "local", "num_cpus": cpus, "object_store_memory": store, "include_dashboard": False}
    return local | quiet


def _worker_environment() -> dict[str, dict[str, str]] | None:
    """The part of this process's environment that workers of a cluster get, since they do not inherit it.

    Never credentials: they would be shown with the job's description.
    """
    names = (storage.TIMEOUT_VARIABLE, logs.INHERITED)
    variables = {name: os.environ[name] for name in names if name in os.environ}
    if not variables:
        return None
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # else a job submitted with the variable is an error
    return {"env_vars": variables}


def _quieten() -> None:
    """Keep Ray's own output off the terminal, where it would hide ours; its log files and --debug have it."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are exceptions too, which we report
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # as in a small survey


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what Ray's C++ side prints while it starts, past Python's logging. Failures are exceptions."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
