"""How long a large survey takes to plan: to list, to compare with the ledger and its objects, and to cut into units.

    python -m benchmarks.scaling_planning --out /tmp/planning

The files of the survey are empty: nothing of them is read before it is decided which ones are to do. Ledger and objects
are those that scoring leaves, made by the job's own writer, once. What is measured runs in a process of its own: the
functions of `plan_scoring`, timed where it calls them; units for all images, as a first run plans them, once headers
are read; and the command `ssvq score`, which finds nothing to do. Peak memory is that process's `VmHWM`, with the
libraries that it importss.
"""

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssvq import storage
from ssvq.config import ScoreConfig
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.raster import ImageHeader
from ssvq.imagery.units import ImagePart, plan_units, split_image
from ssvq.scoring import plan as planning
from ssvq.scoring.ledger import LedgerWriter
from ssvq.scoring.schema import SCORE_MAP, encode_parquet, to_table
from ssvq.scoring.writer import ScoredImage, ScoringRun, put_image, tile_rows
from tests.memory import PeakMemory
from tests.surveys import TILE, make_bundle

STAGES = {
    "list_survey": "list the survey",
    "read_ledger": "read the ledger",
    "read_state": "list the objects, latest rows",
    "not_done": "compare",
    "no_longer_there": "look for removed images",
}
FILES_IN_FOLDER = 1000
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
    arguments = parser.parse_args()
    out = arguments.out
    config = ScoreConfig(survey=str(out / "survey"), model=str(out / "bundle"), out=str(out / "scores"), prune=True)
    if not (out / "complete").exists():
        make_survey(out / "survey", arguments.images)
        make_bundle(out / "bundle")
        make_scores(config)
        (out / "complete").touch()
    add_surveys(out / "scores" / "images", arguments.other_surveys)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.repeats):
        for measure in (plan_again, plan_first):
            for name, seconds, peak in apart(measure, config):
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
    assert not plan.todo
    assert not plan.removed
    return rows


def plan_first(config: ScoreConfig) -> list[tuple[str, float, float]]:
    """Plan the units of all images, headers known."""
    tiling, rule = (made := planning.plan_scoring(config)).tiling, made.bundle.preprocessing.pixels
    started = time.perf_counter()
    units = plan_units([(image, HEADER) for image in made.images], tiling, rule)
    seconds = time.perf_counter() - started
    assert sum(map(len, units)) == len(made.images)
    return [("units for all images, headers known", seconds, peak_memory())]


def command(config: ScoreConfig) -> tuple[float, float]:
    """Seconds and peak memory of the command a person would give."""
    settings = ["--survey", config.survey, "--model", config.model, "--out", config.out, "--prune"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from ssvq.cli import main; raise SystemExit(main())", "score", *settings],
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

    def put(source: SourceImage) -> dict[str, Any] | None:
        (part,) = split_image(source, HEADER, plan.tiling)
        return put_image(run, scored_image(part, run))

    with ThreadPoolExecutor(16) as threads, LedgerWriter(config.out, run.run_id) as ledger:
        for row in threads.map(put, plan.todo):
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
            storage.put(str(ledger / f"{name}-{path.name}"), encode_parquet(named))


def scored_image(part: ImagePart, run: ScoringRun) -> ScoredImage:
    """An image of one tile as the writer gets it."""
    row = {"kept": [0], "valid_fraction": [1.0], "score": [2.0], "score_max": [3.0], "precision": "fp32"}
    row["score_map"] = [np.zeros((TILE // 4, TILE // 4), np.float16).tolist()]
    return ScoredImage(part.source, part.header, to_table(tile_rows(row, part, run), SCORE_MAP), None, 1, 0.01)


if __name__ == "__main__":
    sys.exit(main())
