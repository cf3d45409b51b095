"""The training's figures on their way from the workers to a person: a progress bar, and a JSON-lines file."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty

from ray.util.queue import Queue

from ssvq import storage
from ssvq.config import TrainConfig
from ssvq.progress import Progress

METRICS = "metrics.jsonl"


class SendFigures:
    """Sends the figures of a step to the driver; made there, called on rank 0."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def __call__(self, figures: dict[str, float]) -> None:
        """Send without waiting for them to be read."""
        self.queue.put_nowait(figures)


@contextmanager
def watch_training(config: TrainConfig) -> Iterator[SendFigures]:
    """While training runs, show its progress and keep its figures in `metrics.jsonl` of the output."""
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(config, queue, ended), daemon=True)
    watcher.start()
    try:
        yield SendFigures(queue)
    finally:
        ended.set()
        watcher.join()
        queue.shutdown()


def _watch(config: TrainConfig, queue: Queue, ended: threading.Event) -> None:
    address = storage.join(config.out, METRICS)
    lines = _earlier_lines(address)
    auroc = ""
    with Progress("training", config.steps, "steps") as progress:
        while True:
            try:
                figures = queue.get(timeout=0.5)
            except Empty:
                if ended.is_set():
                    break
                continue
            step = int(figures["step"])
            # A worker that went on from a checkpoint repeats steps; the later figures count.
            lines = {at: line for at, line in lines.items() if at <= step}
            lines[step] = {**lines.get(step, {}), **figures}
            if "validation_auroc" in figures:
                auroc = f"validation AUROC {figures['validation_auroc']:.3f}"
                _put(address, lines)
            loss = f"loss {figures['loss']:.4f}" if "loss" in figures else ""
            progress.advance(step - progress.done, ", ".join(filter(None, (loss, auroc))))
    if lines:
        _put(address, lines)


def _earlier_lines(address: str) -> dict[int, dict[str, float]]:
    try:
        records = [json.loads(line) for line in storage.read_text(address).splitlines()]
    except FileNotFoundError:
        return {}
    return {int(record["step"]): record for record in records}


def _put(address: str, lines: dict[int, dict[str, float]]) -> None:
    storage.put_text(address, "".join(json.dumps(lines[step]) + "\n" for step in sorted(lines)))
