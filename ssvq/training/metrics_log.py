"""Shows and keeps the figures that rank 0 sends: a progress bar, a JSON-lines file, TensorBoard, and a tracker if
one is set.
"""

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tensorboardX import SummaryWriter

from ssvq.io import storage
from ssvq.progress import Progress
from ssvq.runtime.telemetry import show_training
from ssvq.training.settings import TrainConfig
from ssvq.training.tracking.tracking import Tracking

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"


class SendFigures:
    """Sends the figures of a step to the driver. It is made on the driver and called on rank 0."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def __call__(self, figures: dict[str, float]) -> None:
        """Send figures, without waiting until they are read."""
        self.queue.put_nowait(figures)


@contextmanager
def watch_training(config: TrainConfig, tracking: Tracking) -> Iterator[SendFigures]:
    """During a training, show its progress and keep its figures, in the output and in a tracker."""
    # On the driver's node: elsewhere it could be lost with a node that the training itself can spare.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(config, tracking, queue, ended), daemon=True)
    watcher.start()
    try:
        yield SendFigures(queue)
    finally:
        ended.set()
        watcher.join()
        queue.shutdown()


def _watch(config: TrainConfig, tracking: Tracking, queue: Queue, ended: threading.Event) -> None:
    auroc = ""
    with FigureLog(config.out) as log, Progress("training", config.steps, "steps") as progress:
        while True:
            try:
                figures = queue.get(timeout=0.5)
            except Empty:
                if ended.is_set():
                    return
                continue
            log.add(figures)
            tracking.figures(figures)
            show_training(storage.base_name(config.out), figures)
            if not progress.done:  # the start, or an earlier run, says nothing about the time left
                progress.begin_at(int(figures["step"]))
            if "validation_auroc" in figures:
                auroc = f"validation AUROC {figures['validation_auroc']:.3f}"
            note = ", ".join(filter(None, (f"loss {figures['loss']:.4f}", auroc)))
            progress.advance(int(figures["step"]) - progress.done, note)


class FigureLog:
    """Figures by step, as `metrics.jsonl` and as TensorBoard events, of this run and of the runs that it continues.

    After a checkpoint a worker repeats steps: the later figures count. Both files are written whole at every validation
    and at the end, since an object on S3 cannot be appended to.
    """

    def __init__(self, out: str) -> None:
        self.metrics, self.events = storage.join(out, METRICS), storage.join(out, TENSORBOARD)
        self.lines = _earlier_lines(self.metrics)
        self.last_step = max(self.lines, default=0)

    def __enter__(self) -> "FigureLog":
        self.folder = tempfile.TemporaryDirectory()
        # Events of earlier runs are written again, so that one file has the whole training.
        self.writer = SummaryWriter(self.folder.name, filename_suffix=".ssvq")
        for figures in self.lines.values():
            self._write_events(figures)
        return self

    def __exit__(self, *error: object) -> None:
        self._put()
        self.writer.close()
        self.folder.cleanup()

    def add(self, figures: dict[str, float]) -> None:
        """Add the figures of a step; `step` is one of them."""
        step = int(figures["step"])
        self.lines = {at: line for at, line in self.lines.items() if at < step} | {step: figures}
        self._write_events(figures)
        if "validation_auroc" in figures:
            self._put()

    def _write_events(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            if name not in ("step", "time"):
                self.writer.add_scalar(name, value, int(figures["step"]), walltime=figures["time"])

    def _put(self) -> None:
        if not self.lines:
            return
        storage.put_text(self.metrics, "".join(json.dumps(self.lines[step]) + "\n" for step in sorted(self.lines)))
        self.writer.flush()
        for file in Path(self.folder.name).iterdir():
            storage.put(storage.join(self.events, "events.out.tfevents.ssvq"), file.read_bytes())


def _earlier_lines(address: str) -> dict[int, dict[str, float]]:
    try:
        records = [json.loads(line) for line in storage.read_text(address).splitlines()]
    except FileNotFoundError:
        return {}
    return {int(record["step"]): record for record in records}
