"""What scheduling costs, apart from arithmetic: `ssvq score` with scorers that sleep instead of working.

    python -m benchmarks.scaling --out /tmp/scaling
    python -m benchmarks.scaling --out /tmp/scaling --tile-size 512 --scorers 16

All else is the job as it is: planning, reading, the actor pool, writing, the ledger. A scorer of --rate tiles a second
sleeps for as long as its tiles would take, so that there may be more scorers than cores. Images have 8 x 6 tiles, as
a photograph of 12 megapixels has of 512 pixels, and units four images at most, whatever the tile size. Ray has --spare
logical CPUs beside what the scorers ask for. Each row has a process of its own, and lasts about --seconds and its
start.

Efficiency is tiles scored over scorers x rate x seconds, in three windows. `all at work`: from the first tile of the
last scorer until the first one finds nothing left. `after the start`: from the same to the end of the job, with its
tail. `whole job`: from its call to its end, in a Ray session that was there. Bytes are those of all objects that were
made in the object store, over the second window. Memory is looked at every second of the first window.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import ray
import torch
from numpy.typing import NDArray
from ray._private.internal_api import node_stats

from ssvq.config import Architecture, ReadLimits, ScoreConfig, ScoringSettings
from ssvq.imagery.grid import CELL
from ssvq.inference.scorer import MAP_SIDE, TileScores
from ssvq.model import bundle as bundles
from ssvq.model.description import Preprocessing
from ssvq.runtime.session import ray_session
from ssvq.scoring import stages
from ssvq.scoring.job import score
from tests.support.surveys import TINY, make_bundle

SCORERS = (1, 2, 4, 8, 16)
WIDE, HIGH = 8, 6
TILES_IN_PART = 128
HEAD = (
    "| scorers | tiles a second | all at work | after the start | whole job | start, s | MB/s through the store "
    "| driver, MB: first, last, most | store, MB: first, last, most |\n|" + "---|" * 9
)


def main() -> int:
    """Measure and print the table; or measure one row in this process, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for surveys and scores")
    parser.add_argument("--scorers", type=int, nargs="+", default=SCORERS)
    parser.add_argument("--rate", type=float, default=10.0, help="tiles a second of one scorer")
    parser.add_argument("--seconds", type=float, default=100.0, help="that a row would take without any loss")
    parser.add_argument("--tile-size", type=int, default=32)
    parser.add_argument("--spare", type=int, default=4, help="logical CPUs beside those of the scorers")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        print(json.dumps(measure(arguments, arguments.row)))
        return 0
    print(HEAD, flush=True)
    for scorers in arguments.scorers:
        found = [run_row(scorers) for _ in range(arguments.repeats)]
        print(describe(scorers, found), flush=True)
    return 0


def run_row(scorers: int) -> dict[str, Any]:
    """Measure a row in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", *sys.argv[1:], "--row", str(scorers)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(output.splitlines()[-1])
    print(found, file=sys.stderr, flush=True)
    return found


def describe(scorers: int, found: list[dict[str, Any]]) -> str:
    """A line of the table: medians over the repeats."""

    def median(name: str) -> float:
        return statistics.median(one[name] for one in found)

    def three(name: str) -> str:
        return ", ".join(f"{statistics.median(one[name][i] for one in found) / 1e6:,.0f}" for i in range(3))

    columns = [f"{scorers}", f"{median('rate'):.1f}"]
    columns += [f"{median(name):.3f}" for name in ("all_at_work", "after_start", "whole_job")]
    columns += [
        f"{median('start'):.0f}",
        f"{median('store_bytes_a_second') / 1e6:.2f}",
        three("driver"),
        three("store"),
    ]
    return f"| {' | '.join(columns)} |"


def measure(arguments: argparse.Namespace, scorers: int) -> dict[str, Any]:
    """Score a survey with so many sleeping scorers."""
    out, side = arguments.out, arguments.tile_size
    model, calls = out / f"bundle-{side}", out / "calls"
    make_bundle(model, tile_size=side, architecture=TINY if side < 512 else Architecture())
    number = round(scorers * arguments.rate * arguments.seconds / (WIDE * HIGH))
    survey = make_images(out / f"survey-{side}-{number}", number, side)
    for folder in (out / "scores", calls):
        shutil.rmtree(folder, ignore_errors=True)
    calls.mkdir()
    config = ScoreConfig(
        survey=str(survey),
        model=str(model),
        out=str(out / "scores"),
        scorers=scorers,
        device="cpu",
        read=ReadLimits(part_pixels=TILES_IN_PART * side**2),
    )
    with ray_session(debug=False, min_cpus=math.ceil(scorers * stages.CPU_SCORER_CPUS) + arguments.spare):
        watch = Watch()
        watch.start()
        called = time.time()
        code = score(config, make_scorer=sleeping_scorers(calls, arguments.rate))
        ended = time.time()
        watch.over.set()
        watch.join()
        created = watch.store().cumulative_created_bytes
    assert code == 0
    work = Work.read(calls)
    assert len(work.calls) == scorers, f"only {len(work.calls)} scorers worked"
    assert work.tiles(called, ended) == number * WIDE * HIGH
    started, drained = work.all_began, work.first_to_end

    def efficiency(start: float, end: float) -> float:
        return work.tiles(start, end) / (scorers * arguments.rate * (end - start))

    during = [sample for sample in watch.samples if started <= sample[0] <= drained]
    driver, store = ([sample[i] for sample in during] for i in (1, 2))
    return {
        "scorers": scorers,
        "rate": work.tiles(started, drained) / (drained - started),
        "all_at_work": efficiency(started, drained),
        "after_start": efficiency(started, ended),
        "whole_job": efficiency(called, ended),
        "start": started - called,
        "seconds": [drained - started, ended - called],
        "calls": sum(map(len, work.calls)),
        "store_bytes_a_second": created / (ended - started),
        "driver": [driver[0], driver[-1], max(driver)],
        "store": [store[0], store[-1], max(store)],
    }


def sleeping_scorers(folder: Path, rate: float) -> stages.MakeScorer:
    """Makes scorers that sleep, and note when, each in a file of its own."""

    def make(config: ScoringSettings) -> Any:
        return SleepingScorer(folder, rate, bundles.read_description(config.model).preprocessing)

    return make


class SleepingScorer:
    """What ScoreParts asks of a TileScorer."""

    precision, device = "fp32", torch.device("cpu")

    def __init__(self, folder: Path, rate: float, preprocessing: Preprocessing) -> None:
        self.log, self.rate, self.preprocessing = folder / f"{os.getpid()}.jsonl", rate, preprocessing
        self.lock = threading.Lock()

    def score(self, pixels: NDArray[np.uint8], valid_cells: NDArray[np.bool_] | None = None) -> TileScores:
        """Scores of tiles uint8 (n, t, t, 3), all alike."""
        number, side = pixels.shape[:2]
        with self.lock:  # as a device, which works on one thing after the other
            started = time.time()
            time.sleep(number / self.rate)
            with self.log.open("a") as log:
                log.write(json.dumps([started, time.time(), number]) + "\n")
        cells = min(side // CELL, MAP_SIDE)
        scores = np.ones(number, np.float32)
        return TileScores(scores, scores, scores, np.ones((number, cells, cells), np.float16))


@dataclass(frozen=True)
class Work:
    """`calls` of each scorer: start, end (seconds since the epoch) and tiles, in order."""

    calls: list[list[tuple[float, float, int]]]

    @staticmethod
    def read(folder: Path) -> "Work":
        """The calls that the scorers noted."""
        logs = [log.read_text().splitlines() for log in folder.iterdir()]
        return Work([[tuple(json.loads(line)) for line in lines] for lines in logs])

    @property
    def all_began(self) -> float:
        """When the last scorer got its first tiles."""
        return max(calls[0][0] for calls in self.calls)

    @property
    def first_to_end(self) -> float:
        """When the first scorer had done its last tiles."""
        return min(calls[-1][1] for calls in self.calls)

    def tiles(self, start: float, end: float) -> float:
        """Tiles scored in a window; of a call that lies in it in part, its share."""
        return sum(
            tiles * max(0.0, min(end, stop) - max(start, begin)) / (stop - begin)
            for calls in self.calls
            for begin, stop, tiles in calls
        )


class Watch(threading.Thread):
    """Looks at the memory of this process and at Ray's object store every second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.samples: list[tuple[float, int, int]] = []
        (node,) = ray.nodes()
        self.address = node["NodeManagerAddress"], node["NodeManagerPort"]

    def run(self) -> None:
        """Note the time, bytes of this process, bytes in the store."""
        while not self.over.wait(1.0):
            held = psutil.Process().memory_info().rss
            self.samples.append((time.time(), held, self.store().object_store_bytes_used))

    def store(self) -> Any:
        """Figures of the object store, by the names that Ray's protocol gives them."""
        return node_stats(*self.address, include_memory_info=False).store_stats


def make_images(folder: Path, number: int, side: int) -> Path:
    """So many images, which are one file under many names: they are told apart by their paths."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, HIGH * side, WIDE * side), np.uint8)
    profile = {"driver": "GTiff", "width": WIDE * side, "height": HIGH * side, "count": 3, "dtype": "uint8"}
    first = folder / "000000.tif"
    with rasterio.open(first, "w", **profile, interleave="pixel") as image:
        image.write(pixels)
    for i in range(1, number):
        (folder / f"{i:06}.tif").hardlink_to(first)
    return folder


if __name__ == "__main__":
    sys.exit(main())
