"""How soon a large survey is begun: to list it, to compare it with the ledger and its objects, and to its first tile.

    python -m benchmarks.scaling_planning --out /tmp/planning
    python -m benchmarks.scaling_planning --out /tmp/planning --first

The files of the survey are empty: nothing of them is read before it is decided which ones are to do. Ledger and objects
are those that scoring leaves, made by the job's own writer, once. What is measured runs in a process of its own: the
functions of `plan_scoring`, timed where it calls them; and the command `ssvq score`, which finds nothing to do. Peak
memory is that process's `VmHWM`, with the libraries that it imports.

With --first the images are small pictures, links to a few files, and none is done: `ssvq score` runs until its first
object is there, and --seconds more, in which the memory of its driver is looked at. It is then interrupted.
"""

import argparse
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq.config import ScoreConfig
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart, split_image
from ssvq.io import parquet, storage
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scoring import plan as planning
from ssvq.scoring.rows import ScoredPart
from ssvq.scoring.writer import ScoredImage, ScoringRun, put_image, tile_table
from tests.support.images import write_image
from tests.support.memory import PeakMemory
from tests.support.surveys import TILE, make_bundle

STAGES = {
    "read_ledger": "read the ledger",
    "read_state": "list the objects, latest rows",
}
FILES_IN_FOLDER, LINKS_OF_A_FILE = 1000, 10_000
COMMAND = "from ssvq.cli import main; raise SystemExit(main())"
HEADER = ImageHeader(
    width=TILE,
    height=TILE,
    bands=3,
    dtype="uint8",
    driver="PNG",
    crs=None,
    transform=None,
    random_access=False,
    file_block=(TILE, 1),
    orientation=1,
    captured_at=None,
    latitude=52.0,
    longitude=4.0,
)


def main() -> int:
    """Make the survey and its ledger where they are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the survey and its scores")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--other-surveys", type=int, default=0, help="as large, whose rows share the ledger")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first", action="store_true", help="time to the first tile, and memory of the driver")
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    out = arguments.out
    if arguments.first:
        if not (out / "bundle").exists():
            make_bundle(out / "bundle")
        print("| images | first object, s | objects in the end | driver, MB: with the first, and at four later times |")
        print("|---|---|---|---|")
        for number in (arguments.images // 100, arguments.images):
            print(first_tile(out, number, arguments.seconds), flush=True)
        return 0
    config = ScoreConfig(survey=str(out / "survey"), model=str(out / "bundle"), out=str(out / "scores"), prune=True)
    if not (out / "complete").exists():
        make_survey(out / "survey", arguments.images)
        make_bundle(out / "bundle")
        make_scores(config)
        (out / "complete").touch()
    add_surveys(out / "scores" / "images", arguments.other_surveys)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.repeats):
        for name, seconds, peak in apart(plan_again, config):
            rows.setdefault(name, []).append((seconds, peak))
        rows.setdefault("`ssvq score`, with Python's start", []).append(command(config))
    segments = list((out / "scores" / "images").iterdir())
    in_ledger = sum(pq.read_metadata(segment).num_rows for segment in segments)
    print(f"{arguments.images:,} images; {in_ledger:,} rows in {len(segments):,} segments\n")
    print("| what | s | peak of the process, MB |\n|---|---|---|")
    for name, measured in rows.items():
        seconds, peak = np.median(measured, axis=0)
        print(f"| {name} | {seconds:.2f} | {peak / 1e6:.0f} |")
    return 0


def apart(measure: Callable[[ScoreConfig], Any], config: ScoreConfig) -> list[tuple[str, float, float]]:
    """Call it in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (config,))


def plan_again(config: ScoreConfig) -> list[tuple[str, float, float]]:
    """Plan a run on a survey of which everything is done: name, seconds, and peak memory so far, of each stage."""
    rows = []

    def timed(function: Callable[..., Any], name: str, *args: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        result = function(*args, **settings)
        rows.append((name, time.perf_counter() - started, peak_memory()))
        return result

    for function, name in STAGES.items():
        setattr(planning, function, partial(timed, getattr(planning, function), name))
    plan = timed(planning.plan_scoring, "all of `plan_scoring`", config)
    assert not plan.has_work
    return rows


def first_tile(out: Path, images: int, seconds: float) -> str:
    """A row of a table: seconds until the first object, and memory of the driver then and later."""
    survey = out / f"pictures-{images}"
    if not survey.exists():
        make_pictures(survey, images)
    config = ["--survey", str(survey), "--model", str(out / "bundle"), "--out", str(out / "first"), "--device", "cpu"]
    shutil.rmtree(out / "first", ignore_errors=True)
    started = time.perf_counter()
    job = subprocess.Popen([sys.executable, "-c", COMMAND, "score", *config], stdout=subprocess.DEVNULL)
    tiles, driver = out / "first" / "tiles", psutil.Process(job.pid)
    while next(tiles.rglob("*.parquet"), None) is None:
        time.sleep(0.05)
    first = time.perf_counter() - started
    memory = [driver.memory_info().rss]
    for _ in range(4):
        time.sleep(seconds / 4)
        memory.append(driver.memory_info().rss)
    done = sum(1 for _ in tiles.rglob("*.parquet"))
    job.send_signal(signal.SIGINT)
    job.wait()
    shown = ", ".join(f"{one / 1e6:.0f}" for one in memory)
    return f"| {images:,} | {first:.1f} | {done:,} | {shown} |"


def make_pictures(folder: Path, number: int) -> None:
    """So many pictures of one tile."""
    for i in range(number):
        path = folder / f"{i // FILES_IN_FOLDER:04}" / f"DJI_{i:06}.png"
        if i % LINKS_OF_A_FILE == 0:
            original = write_image(path, np.random.default_rng(i).integers(0, 256, (TILE, TILE, 3), np.uint8))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(original)


def command(config: ScoreConfig) -> tuple[float, float]:
    """Seconds and peak memory of the command a person would give."""
    settings = ["--survey", config.survey, "--model", config.model, "--out", config.out, "--prune"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "score", *settings],
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = PeakMemory(process.pid)
    memory.start()
    output, _ = process.communicate()
    memory.over.set()
    assert "nothing to do" in output, output
    return time.perf_counter() - started, memory.peak


def peak_memory() -> float:
    """Most bytes that this process has held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


def make_survey(folder: Path, number: int) -> None:
    """So many empty files."""
    for i in range(number):
        path = folder / f"{i // FILES_IN_FOLDER:04}" / f"DJI_{i:06}.png"
        if i % FILES_IN_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.touch()


def make_scores(config: ScoreConfig) -> None:
    """Object and ledger row of every image."""
    plan = planning.plan_scoring(config)
    run = ScoringRun(plan.partition, config.survey, "20260101T000000Z-00000000", plan.bundle.calibration)

    def put(source: SourceImage) -> LedgerRow | None:
        (part,) = split_image(source, HEADER, plan.tiling)
        return put_image(run, scored_image(part, run))

    with ThreadPoolExecutor(16) as threads, LedgerWriter(config.out, run.run_id) as ledger:
        for row in threads.map(put, plan.todo()):
            assert row is not None
            ledger.add(row)


def add_surveys(ledger: Path, number: int) -> None:
    """Segments of so many other surveys: those that are there, under other names."""
    segments = [path for path in ledger.iterdir() if not path.name.startswith("survey-")]
    for name in (f"survey-{i}" for i in range(number)):
        for path in segments:
            table = pq.read_table(path)
            column = table.schema.get_field_index("survey")
            named = table.set_column(column, "survey", pa.array([name] * len(table)))
            storage.put(str(ledger / f"{name}-{path.name}"), parquet.encode(named))


def scored_image(part: ImagePart, run: ScoringRun) -> ScoredImage:
    """An image of one tile as the writer gets it."""
    one = np.ones(1, np.float32)
    heat = np.zeros((1, TILE // 4, TILE // 4), np.float16)
    scored = ScoredPart(
        part, None, np.zeros(1, np.int32), one, 2 * one, 3 * one, 3 * one, heat, None, "fp32", "GDAL", 0.01, 0.0
    )
    return ScoredImage(part.source, part.header, tile_table(scored, run), None, 1, 0.01)


if __name__ == "__main__":
    sys.exit(main())
