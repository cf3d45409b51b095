"""What can go wrong with a cluster under a job, for tests and benchmarks that make it go wrong."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support.cluster_jobs import ScoringJob, TrainingJob
from tests.support.cluster_s3 import ClusterS3
from tests.support.nodes import Cluster, Node, wait_for

UNDER_WAY_SECONDS, END_SECONDS = 180, 300
CUT_SECONDS, DOWN_SECONDS, OVERLOADED_EVERY = 30, 20, 5
LATER_SECONDS = 5
RAYLET = "/raylet/raylet "
READING = "ray::MapBatches(read_parts)"
BUSY = (
    "ray::MapBatches",
    "ray::MapWorker",
    "ray::_MapWorker",
    "ray::RayTrainWorker",
    "ray::_inspect",
    "ray::ScoreParts",
)


@dataclass
class Scene:
    """A job that runs on a cluster, and what is under way against it."""

    cluster: Cluster
    s3: ClusterS3
    driver: "subprocess.Popen[bytes]"
    random: random.Random
    timers: list[threading.Timer] = field(default_factory=list)

    def victim(self) -> Node:
        """A node, not the head, that nothing has happened to yet; it counts as hurt from now on."""
        node = self.random.choice([node for node in self.cluster.nodes[1:] if not node.hurt])
        node.hurt = True
        return node

    def end(self) -> None:
        """Wait for what was to pass by itself, and let S3 answer again."""
        for timer in self.timers:
            timer.join()
        self.s3.overload(None)


def _kill_worker(scene: Scene) -> str:
    found: list[psutil.Process] = []

    def busy() -> bool:
        for node in scene.cluster.nodes:
            if not node.hurt:
                found.extend(node.processes(*BUSY))
        return bool(found) or scene.driver.poll() is not None

    wait_for(busy, 60, "a worker that works")
    if not found:
        return "no worker: the job had ended"
    victim = scene.random.choice(found)
    name = victim.name() if not victim.cmdline() else victim.cmdline()[0]
    victim.kill()
    return name


def _kill_raylet(scene: Scene) -> str:
    node = scene.victim()
    return f"node {node.number}, {len(node.kill(RAYLET))} process"


def _kill_driver(scene: Scene) -> str:
    os.kill(scene.driver.pid, signal.SIGKILL)
    return f"pid {scene.driver.pid}"


def _cut_for_a_while(scene: Scene) -> str:
    node = scene.victim()
    node.cut()
    timer = threading.Timer(CUT_SECONDS, node.heal)
    timer.start()
    scene.timers.append(timer)
    return f"node {node.number}"


def _cut_for_good(scene: Scene) -> str:
    node = scene.victim()
    node.cut()
    return f"node {node.number}"


def _fill_disk(scene: Scene) -> str:
    node = scene.victim()
    node.fill_disk()
    return f"node {node.number}"


def _s3_down(scene: Scene) -> str:
    scene.timers.append(scene.s3.go_away(DOWN_SECONDS))
    return "the front of the server"


def _s3_overloaded(scene: Scene) -> str:
    scene.s3.overload(OVERLOADED_EVERY)
    return "until the job ended"


def _join(scene: Scene) -> str:
    node = scene.cluster.add_node()
    node.extra = True
    return f"node {node.number}"


class Fault(NamedTuple):
    """A fault: in words, and how it is made."""

    words: str
    strike: Callable[[Scene], str]
    """Returns what was hit."""


FAULTS = {
    "worker": Fault("SIGKILL of a worker", _kill_worker),
    "raylet": Fault("SIGKILL of a raylet", _kill_raylet),
    "driver": Fault("SIGKILL of the driver", _kill_driver),
    "cut": Fault(f"a node off the network for {CUT_SECONDS} s", _cut_for_a_while),
    "cut-for-good": Fault("a node off the network for good", _cut_for_good),
    "disk": Fault("the disk of a node full", _fill_disk),
    "s3-down": Fault(f"S3 down for {DOWN_SECONDS} s", _s3_down),
    "s3-503": Fault(f"S3 answers 503 to every {OVERLOADED_EVERY}th request", _s3_overloaded),
    "join": Fault("a node joins", _join),
}


def pair(seed: int) -> tuple[tuple[str, str], float]:
    """Two faults, and the seconds from the first to the second."""
    draw = random.Random(seed)
    first, second = draw.sample(sorted(FAULTS), 2)
    return (first, second), draw.uniform(0, 10)


def _is_half_done(scene: Scene, job: ScoringJob | TrainingJob, out: str) -> bool:
    """Whether the job works and has most of its work to do, or has ended."""
    if scene.driver.poll() is not None:
        return True
    if isinstance(job, ScoringJob):
        return any(node.processes(READING) for node in scene.cluster.nodes)
    return job.has_checkpoint(out)


@dataclass
class Run:
    """One run of a command: its exit code, None where it did not end in time and was killed; what was hit, and when
    (seconds since 1970).
    """

    code: int | None = None
    hit: list[str] = field(default_factory=list)
    struck: float = 0.0
    note: str = ""


def run_job(
    cluster: Cluster,
    s3: ClusterS3,
    job: ScoringJob | TrainingJob,
    out: str,
    log: Path,
    *,
    faults: Sequence[str] = (),
    seed: int = 0,
    gap: float = 0.0,
) -> Run:
    """Run a job to its end. The faults strike `gap` seconds apart, the first up to 5 s after a scoring has begun to
    read images, or a training to write its second checkpoint.
    """
    run = Run()
    driver = cluster.run(*job.command(out), output=log)
    scene = Scene(cluster, s3, driver, random.Random(seed))
    try:
        if faults:
            wait_for(partial(_is_half_done, scene, job, out), UNDER_WAY_SECONDS, "a job half done", every=1)
            time.sleep(scene.random.uniform(0, LATER_SECONDS))
            run.struck = time.time()
            for number, name in enumerate(faults):
                time.sleep(gap if number else 0)
                run.hit.append(f"{name}: {FAULTS[name].strike(scene)}")
        wait_for(lambda: driver.poll() is not None, END_SECONDS, "the end of a job")
    except TimeoutError as error:
        run.note = str(error)
        driver.kill()
        driver.wait()
        return run
    finally:
        scene.end()
    run.code = driver.returncode
    return run
