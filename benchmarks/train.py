"""What Ray Train and Ray Data cost: steps a second of `ssvq train` against the same steps in one plain process.

    python -m benchmarks.train --out results/train-speed

Both make the same batches from the same tile cache and take the same steps with the same threads. The plain process
prepares a batch in a thread while it works on another. Steps before --warm-up are not counted. Measurements alternate
and are repeated; the ratios are of medians. The images are synthetic.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ssvq.config import Architecture, Precision, TrainConfig
from ssvq.demo.synthetic import write_survey
from ssvq.imagery.grid import Tiling
from ssvq.imagery.layouts import find_images
from ssvq.model.precision import resolve_precision
from ssvq.runtime.session import ray_session
from ssvq.training.cut import cut_into_cache
from ssvq.training.dataset import draw_tile_sets
from ssvq.training.engine import Engine, mean_over_ranks
from ssvq.training.job import task_data, train
from ssvq.training.sampling import Batch, BatchPlan, make_batch


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    survey = arguments.out / "survey"
    if not (survey / "masks").exists():
        write_survey(survey, seed=1, photographs=12, orthomosaic=None)
    base: dict[str, Any] = {
        "images": str(survey / "images"),
        "masks": str(survey / "masks"),
        "tile_cache": str(arguments.out / "tile-cache"),
        "crop": 64,
        "architecture": Architecture(),
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "validate_every": arguments.steps,
        "validation_tiles": 4,
        "calibration_tiles": 4,
    }
    # Where the hardware has no bf16, it runs in software, ten times slower: nobody would train so.
    native = resolve_precision("auto", torch.device("cpu")) == "bf16"
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if native else ("fp32",)
    measured: dict[str, list[float]] = {}
    starts: list[float] = []
    with ray_session(debug=False):
        for _ in range(arguments.repeats):
            for precision in precisions:
                config = TrainConfig(out=str(arguments.out / "bundle"), precision=precision, **base)
                plain = plain_steps_per_second(config, arguments.warm_up)
                measured.setdefault(f"plain process, {precision}", []).append(plain)
            config = TrainConfig(out=str(arguments.out / "bundle"), precision="fp32", **base)
            rate, start = ray_steps_per_second(config, arguments.warm_up)
            measured.setdefault("ssvq train, 1 worker, fp32", []).append(rate)
            starts.append(start)
    for line in table(measured, starts):
        print(line)
    return 0


def plain_steps_per_second(config: TrainConfig, warm_up: int) -> float:
    """Steps a second after the warm-up in this process."""
    images, unusable = find_images(config)
    tiling = Tiling(tile_size=config.tile_size, stride=config.tile_size)
    folder, index = cut_into_cache(images, unusable, tiling, str(config.tile_cache), config.pixel_rule, config.read)
    tile_sets = draw_tile_sets(index, images, config)
    plan = task_data(config, folder, index, tile_sets)["plan"]
    engine = Engine(config, tile_sets.preprocessing)
    started = 0.0
    for step, batch in enumerate(batches(plan, config.steps)):
        if step == 0:
            engine.start(batch.normal)
        if step == warm_up:
            started = time.perf_counter()
        terms = engine.step(step, *batch)
        if step % config.log_every == 0:
            mean_over_ranks(terms)
    return (config.steps - warm_up) / (time.perf_counter() - started)


def batches(plan: BatchPlan, steps: int) -> Iterator[Batch]:
    """Batches in order, the next made while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(make_batch, plan, 0, 0, 1)
        for step in range(1, steps + 1):
            batch = coming.result()
            coming = thread.submit(make_batch, plan, step, 0, 1)
            yield batch


def ray_steps_per_second(config: TrainConfig, warm_up: int) -> tuple[float, float]:
    """Steps a second of the job after the warm-up; and seconds from its call to the end of its first step, with Ray
    running and the tiles cut.
    """
    shutil.rmtree(config.out, ignore_errors=True)
    called = time.time()
    train(config)
    lines = [json.loads(line) for line in Path(config.out, "metrics.jsonl").read_text().splitlines()]
    at = {int(line["step"]): line["time"] for line in lines if "validation_auroc" not in line}
    first, last = min(step for step in at if step >= warm_up), max(at)
    return (last - first) / (at[last] - at[first]), at[1] - called


def table(measured: dict[str, list[float]], starts: list[float]) -> Iterator[str]:
    """Markdown: medians with minimum and maximum, and the ratios."""
    base = statistics.median(measured["plain process, fp32"])
    yield f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    yield "| what | steps a second: median (least to most) | of the plain process, fp32 |"
    yield "|---|---|---|"
    for name, rates in measured.items():
        median = statistics.median(rates)
        yield f"| {name} | {median:.2f} ({min(rates):.2f} to {max(rates):.2f}) | {median / base:.2f} |"
    yield (
        f"\nFrom the call of the job to the end of its first step: {statistics.median(starts):.1f} s "
        f"({min(starts):.1f} to {max(starts):.1f}), with Ray running and the tiles cut."
    )


if __name__ == "__main__":
    sys.exit(main())
