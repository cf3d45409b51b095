"""How fast images are scored: this job against its own parts, the machine, and what one would write without it.

    python -m benchmarks.score --photographs ../shared/data/drone/*.JPG PHOTO.jpeg... --out results/score-speed
    python -m benchmarks.score --scale --out results/score-speed

Every row has a process of its own on the same cores, with the same weights (untrained: time does not depend on them)
and photographs (repeated under other names); rows alternate, and medians are compared. Memory is that of the largest
process of a row, without the object store that Ray's processes share. The start is left out by scoring a small survey
and a large one and counting what the large one has more; for the job and its rivals it is given apart.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import rasterio
import torch

from ssvq.config import Architecture
from ssvq.model.precision import resolve_precision
from tests.support.memory import PeakMemory
from tests.support.surveys import make_bundle

SCALES = (10, 100, 1_000, 10_000)
SMALL_WIDTH, SMALL_HEIGHT = 96, 64


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8, help="photographs that the job scores")
    parser.add_argument("--rival-images", type=int, default=3, help="photographs that the rivals score")
    parser.add_argument("--rival-batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", action="store_true", help="tiles a second and driver memory by number of images")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for line in scale_table(arguments) if arguments.scale else rows_table(arguments):
        print(line, flush=True)
    return 0


def rows_table(arguments: argparse.Namespace) -> Iterator[str]:
    """The rows of the job, its parts and its rivals."""
    out = arguments.out
    model = out / "bundle"
    make_bundle(model, tile_size=512, architecture=Architecture())
    one, many, fewer = (
        make_survey(out / f"photographs-{n}", arguments.photographs, n)
        for n in (1, 1 + arguments.images, 1 + arguments.rival_images)
    )
    own, rivals = [one, many], [one, fewer]
    precision = resolve_precision("auto", torch.device("cpu"))
    rows = [
        (f"5. matrix products, {precision}", "matrix_product", precision, own),
        (f"1. scorer, {precision}", "scorer", precision, own),
        ("decoding", "decoding", precision, own),
        (f"2. this job, {precision}", "job", precision, own),
        ("3. Ray's examples, whole model, fp32", "ray_example", "fp32", rivals),
        ("4. DataLoader and encoder, fp32", "data_loader", "fp32", rivals),
    ]
    if precision == "bf16":  # elsewhere it runs in software, ten times slower: nobody would score so
        rows.append(("4. DataLoader and encoder, bf16", "data_loader", "bf16", rivals))
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.repeats):
        for name, row, row_precision, surveys in rows:
            found.setdefault(name, []).append(measure(row, model, surveys, row_precision, arguments))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    yield from describe(found)


def describe(found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """Markdown: medians with least and most, and the ratios."""
    decoding = statistics.median(one["seconds"] for one in found.pop("decoding"))
    rates = {name: statistics.median(one["rate"] for one in measured) for name, measured in found.items()}
    cores = os.cpu_count() or 1
    yield f"{cores} cores, torch {torch.__version__}\n"
    yield "| what | tiles a second: median (least to most) | start, s | largest process, MB |"
    yield "|---|---|---|---|"
    for name, measured in sorted(found.items()):
        all_rates = [one["rate"] for one in measured]
        start = f"{statistics.median(one['start'] for one in measured):.0f}" if "start" in measured[0] else ""
        memory = statistics.median(one["memory_mb"] for one in measured)
        yield f"| {name} | {rates[name]:.2f} ({min(all_rates):.2f} to {max(all_rates):.2f}) | {start} | {memory:.0f} |"
    limit = next(measured[0] for name, measured in found.items() if name.startswith("5"))
    yield f"\nWork in a tile: {limit['gflop']:.2f} GFLOP, at {limit['gflop_per_s']:.0f} GFLOP a second."
    yield f"Decoding and cutting: {decoding * 1e3:.1f} ms of one core a tile."
    one, two, five = (next(rate for name, rate in rates.items() if name.startswith(n)) for n in "125")
    together = cores / (cores / one + decoding)
    yield f"1 and decoding allow {together:.2f} tiles a second together on {cores} cores.\n"
    yield "| ratio | |"
    yield "|---|---|"
    yield f"| 1 to 5 | {one / five:.2f} |"
    yield f"| 2 to what 1 and decoding allow | {two / together:.2f} |"
    for name, rate in rates.items():
        if name[0] in "34":
            yield f"| 2 to {name} | {two / rate:.2f} |"


def scale_table(arguments: argparse.Namespace) -> Iterator[str]:
    """Tiles a second and memory of the driver by number of images."""
    model = arguments.out / "small-bundle"
    make_bundle(model)
    one = make_small_images(arguments.out / "small-1", 1)
    yield "| images | tiles | tiles a second | start, s | driver, MB |"
    yield "|---|---|---|---|---|"
    for number in arguments.scales:
        many = make_small_images(arguments.out / f"small-{number}", number)
        found = [measure("scale", model, [one, many], "fp32", arguments) for _ in range(arguments.repeats)]
        rate, start, driver = (statistics.median(run[of] for run in found) for of in ("rate", "start", "driver_mb"))
        yield f"| {number:,} | {found[0]['tiles']:,.0f} | {rate:.0f} | {start:.0f} | {driver:.0f} |"


def measure(
    row: str, model: Path, surveys: list[Path], precision: str, arguments: argparse.Namespace
) -> dict[str, float]:
    """Run a row in a process of its own; what it printed, and the memory of its largest process."""
    command = [sys.executable, "-m", "benchmarks.score_rows", row, "--model", str(model), "--precision", precision]
    command += ["--small", str(surveys[0]), "--large", str(surveys[1]), "--out", str(arguments.out / "scores")]
    command += ["--rival-batch", str(arguments.rival_batch)]
    log = arguments.out / f"{row}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        memory = PeakMemory(process.pid, held_alone)
        memory.start()
        output, _ = process.communicate()
        memory.over.set()
    if process.returncode:
        raise SystemExit(f"{row} failed: see {log}")
    return {**json.loads(output.splitlines()[-1]), "memory_mb": memory.peak / 1e6}


def held_alone(process: psutil.Process) -> int:
    """Bytes of a process in memory without those that it shares: its own and those of its files, such as libraries."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssFile")))


def make_survey(folder: Path, photographs: list[Path], number: int) -> Path:
    """So many photographs, repeated under other names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i, path in zip(range(number), itertools.cycle(photographs), strict=False):
        shutil.copy(path, folder / f"{i:04}.jpg")
    return folder


def make_small_images(folder: Path, number: int) -> Path:
    """So many small PNG images of noise."""
    if folder.exists() and len(list(folder.iterdir())) == number:
        return folder
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    profile = {"driver": "PNG", "width": SMALL_WIDTH, "height": SMALL_HEIGHT, "count": 3, "dtype": "uint8"}
    for i in range(number):
        with rasterio.open(folder / f"{i:06}.png", "w", **profile) as image:
            image.write(rng.integers(0, 256, (3, SMALL_HEIGHT, SMALL_WIDTH), np.uint8))
    return folder


if __name__ == "__main__":
    sys.exit(main())
