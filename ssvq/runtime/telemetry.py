"""A job's metrics for Prometheus, exported by Ray's agents with the prefix `ray_`.

The driver counts what leaves the pipeline. If tasks counted, a repeated task would count twice, and a dead worker not
at all; here the counts equal the ledger's, at no cost to readers and scorers. Ray's own metrics cover the rest by node:
tasks, queues between stages, object store, GPUs.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from ray.util.metrics import Counter, Gauge

SECONDS_BETWEEN_UPDATES = 1.0  # an update takes some 3 us, which is much for each of a million small images


class MetricSpec(NamedTuple):
    """A metric: its kind in Ray, its meaning, and the tags of its values."""

    kind: type[Counter] | type[Gauge]
    description: str
    tags: tuple[str, ...]


METRICS = {
    "ssvq_tiles_scored_total": MetricSpec(Counter, "Tiles scored.", ("survey", "run")),
    "ssvq_tiles_anomalous_total": MetricSpec(
        Counter, "Scored tiles at or over the model's threshold.", ("survey", "run")
    ),
    "ssvq_images_scored_total": MetricSpec(Counter, "Images scored, their object put.", ("survey", "run")),
    "ssvq_images_failed_total": MetricSpec(
        Counter, "Images failed, by stage: read, score, write.", ("survey", "run", "stage")
    ),
    "ssvq_read_bytes_total": MetricSpec(Counter, "Size of the image files that have been read.", ("survey", "run")),
    "ssvq_stage_seconds_total": MetricSpec(
        Counter, "Seconds that tasks took, by stage: read, score, write.", ("survey", "run", "stage")
    ),
    "ssvq_queue_length": MetricSpec(
        Gauge,
        "What waits, by queue: images that have not ended, parts of large images to be joined, ledger rows to be put.",
        ("survey", "run", "queue"),
    ),
    "ssvq_training_step": MetricSpec(Gauge, "Steps that a training has taken.", ("run",)),
    "ssvq_training_samples_per_second": MetricSpec(Gauge, "Speed of a training.", ("run",)),
    "ssvq_training_loss": MetricSpec(Gauge, "Loss at the latest logged step.", ("run",)),
}


@cache
def _metric(name: str) -> Any:
    """The metric of this process, a Counter or a Gauge, created at first use."""
    spec = METRICS[name]
    return spec.kind(name, spec.description, spec.tags)


def tell_ray(name: str, value: float, tags: dict[str, str]) -> None:
    """Add to a counter of Ray, or set its gauge."""
    metric = _metric(name)
    if METRICS[name].kind is Counter:
        metric.inc(value, tags)
    else:
        metric.set(value, tags)


class ScoringMetrics:
    """The metrics of one run, collected here and sent (`tell`: name, value, tags) every `seconds` seconds and when
    the context ends. Ray must still be connected then.
    """

    def __init__(
        self,
        survey: str,
        run_id: str,
        *,
        tell: Callable[[str, float, dict[str, str]], None] = tell_ray,
        seconds: float = SECONDS_BETWEEN_UPDATES,
    ) -> None:
        self._tell, self._seconds = tell, seconds
        self._tags = {"survey": survey, "run": run_id}
        self._sums: defaultdict[tuple[str, str], float] = defaultdict(float)  # by name and stage
        self._queues: dict[str, int] = {}
        self._updated = time.monotonic()

    def __enter__(self) -> "ScoringMetrics":
        return self

    def __exit__(self, *error: object) -> None:
        self.update()

    def count_part(self, *, tiles: int, anomalous_tiles: int, size: float, seconds: Mapping[str, float]) -> None:
        """Count a part of an image, of `size` bytes of its file, that passed all stages."""
        self._sums["ssvq_tiles_scored_total", ""] += tiles
        self._sums["ssvq_tiles_anomalous_total", ""] += anomalous_tiles
        self._sums["ssvq_read_bytes_total", ""] += size
        for stage, taken in seconds.items():
            self.count_seconds(stage, taken)
        self._update_now_and_then()

    def count_seconds(self, stage: str, seconds: float) -> None:
        """Count seconds of a stage."""
        self._sums["ssvq_stage_seconds_total", stage] += seconds

    def count_image(self, failed_stage: str | None) -> None:
        """Count an image whose row is in the ledger."""
        name = "ssvq_images_failed_total" if failed_stage else "ssvq_images_scored_total"
        self._sums[name, failed_stage or ""] += 1
        self._update_now_and_then()

    def set_queue(self, queue: str, length: int) -> None:
        """Set the length of a queue."""
        self._queues[queue] = length

    def _update_now_and_then(self) -> None:
        if time.monotonic() - self._updated >= self._seconds:
            self.update()

    def update(self) -> None:
        """Send what was collected."""
        for (name, stage), value in self._sums.items():
            if value > 0:  # Ray's counters refuse 0
                self._tell(name, value, {**self._tags, "stage": stage} if stage else self._tags)
        for queue, length in self._queues.items():
            self._tell("ssvq_queue_length", length, {**self._tags, "queue": queue})
        self._sums.clear()
        self._updated = time.monotonic()


def show_training(run: str, figures: Mapping[str, float]) -> None:
    """Show the figures of a training step as metrics."""
    for figure, name in (
        ("step", "ssvq_training_step"),
        ("samples_per_second", "ssvq_training_samples_per_second"),
        ("loss", "ssvq_training_loss"),
    ):
        if figure in figures:
            tell_ray(name, figures[figure], {"run": run})
