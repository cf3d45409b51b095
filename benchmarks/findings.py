"""How fast and in how much memory `ssvq findings` makes the findings of a large survey.

    python -m benchmarks.findings --out /tmp/findings

Score maps of --images images with 100 tiles each, of 512 pixels with 32x32 cells, are made once: smooth heat under the
threshold, and --regions regions over it in each image. Each repeat is the command in a process of its own, with its
start. Memory is the peak of the command and the processes that it starts, added up every 50 ms: each process by the
pages that are its own, and its share of those that it has in common with others.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.ndimage import zoom

from ssvq.io import parquet, storage
from ssvq.progress import Progress
from ssvq.scores.layout import Partition, model_file
from ssvq.scores.ledger import LedgerWriter
from ssvq.scores.ledger_row import LedgerRow
from ssvq.scores.schema import SCORE_MAP

SURVEY, MODEL, TILING = "survey", "0" * 16, "512-512-shift"
GRID, CELLS, SIDE = 10, 32, 512  # tiles on a side of an image, stored cells and pixels on a side of a tile
ALL = GRID * CELLS
THRESHOLD = 128.0  # of a tile, of 128 x 128 latent cells: 1 for a cell


def main() -> None:
    """Make the score maps where they are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the score maps, some GB")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--regions", type=int, default=5, help="of an image")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    out = arguments.out / f"{arguments.images}-{arguments.regions}"
    partition = Partition(str(out), SURVEY, MODEL, TILING)
    if not (out / "whole").exists():
        shutil.rmtree(out, ignore_errors=True)
        make_score_maps(partition, arguments.images, arguments.regions)
        (out / "whole").touch()
    seconds, megabytes = zip(*(measure(out) for _ in range(arguments.repeats)), strict=True)
    rows = pq.read_metadata(partition.findings).num_rows
    print("| tiles | images | findings | seconds, median (least to most) | peak memory, MB | table, MB |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.images * GRID**2:,} | {arguments.images:,} | {rows:,} | {statistics.median(seconds):.0f} "
        f"({min(seconds):.0f} to {max(seconds):.0f}) | {max(megabytes):.0f} "
        f"| {Path(partition.findings).stat().st_size / 1e6:.0f} |"
    )


def measure(out: Path) -> tuple[float, float]:
    """Seconds of the command, and the most MB that it held."""
    started = time.perf_counter()
    command = [sys.executable, "-c", "import sys; from ssvq.cli import main; sys.exit(main())", "findings", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    whole = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_own_bytes, [whole, *_children(whole)])))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"ssvq findings ended with exit code {process.returncode}")
    return time.perf_counter() - started, peak / 1e6


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _own_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has ended
        return 0


def make_score_maps(partition: Partition, images: int, regions: int) -> None:
    """Objects and ledger as scoring leaves them."""
    rng = np.random.default_rng(0)
    described = {"preprocessing": {"cell": 4}, "calibration": {"decides": "score"}}
    storage.put_text(model_file(partition.out, MODEL), json.dumps(described))
    grounds = [zoom(rng.uniform(0.3, 0.7, (21, 21)), ALL / 21, order=1) for _ in range(8)]
    now = datetime.now(UTC)
    with LedgerWriter(partition.out, "run") as ledger, Progress("making", images, "images") as progress:
        for i in range(images):
            name = f"i{i:06}"
            heat = draw_heat(rng, grounds[i % len(grounds)], regions)
            identity: dict[str, Any] = {
                "survey": SURVEY,
                "image_uri": f"s3://bucket/survey/{name}.jpg",
                "image_id": name,
            }
            identity |= {"fingerprint": f"{i}", "model_id": MODEL, "tiling_id": TILING, "run_id": "run"}
            info = parquet.put(partition.score_map(name), tiles_of(heat, identity))
            ledger.add(
                LedgerRow(
                    **identity,
                    recorded_at=now,
                    status="scored",
                    tiles=GRID**2,
                    image_width=GRID * SIDE,
                    image_height=GRID * SIDE,
                    object_version=info.version,
                    run_number=1,
                )
            )
            progress.advance(1)


def draw_heat(rng: np.random.Generator, ground: NDArray[np.float64], regions: int) -> NDArray[np.float16]:
    """Cell distances of an image, float16 (rows, cols): 0.3 to 0.7 with grain, and round regions of up to 2."""
    heat = np.roll(ground, rng.integers(0, ALL, 2), (0, 1)) + rng.integers(-4, 4, (ALL, ALL)) / 64
    for _ in range(regions):
        reach = int(rng.integers(2, 16))
        y, x = rng.integers(reach, ALL - reach, 2)
        down, right = np.mgrid[-reach:reach, -reach:reach]
        bump = rng.uniform(1, 2) * (1 - np.hypot(down, right) / reach) + 0.6
        window = heat[y - reach : y + reach, x - reach : x + reach]
        np.maximum(window, bump, out=window)
    return heat.astype(np.float16)


def tiles_of(heat: NDArray[np.float16], identity: dict[str, str]) -> pa.Table:
    """Rows of SCORE_MAP of an image."""
    number = GRID**2
    maps = heat.reshape(GRID, CELLS, GRID, CELLS).swapaxes(1, 2).reshape(number, CELLS, CELLS)
    wide = maps.astype(np.float32)
    scores = np.sqrt((wide**2).mean((1, 2))) * THRESHOLD
    row, col = np.divmod(np.arange(number, dtype=np.int32), GRID)
    rows_of_cells = pa.FixedSizeListArray.from_arrays(pa.array(maps.ravel()), CELLS)
    columns = {
        **{name: [value] * number for name, value in identity.items()},
        "tile_id": [f"{identity['image_id']}-{r}-{c}" for r, c in zip(row, col, strict=True)],
        **{"row": row, "col": col, "x": col * SIDE, "y": row * SIDE},
        **{"width": np.full(number, SIDE), "height": np.full(number, SIDE), "valid_fraction": np.ones(number)},
        **{"score": scores, "score_max": wide.max((1, 2)), "p_value": 1 / (1 + scores)},
        **{"threshold": np.full(number, THRESHOLD), "is_anomalous": scores >= THRESHOLD},
        "score_map": pa.FixedSizeListArray.from_arrays(rows_of_cells, CELLS),
    }
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(number, f.type) for f in SCORE_MAP
    ]
    return pa.table(arrays, schema=SCORE_MAP)


if __name__ == "__main__":
    main()
