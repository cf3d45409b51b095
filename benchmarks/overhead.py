"""What the host does for each tile, apart from decoding and from the network: no GPU is needed.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --json

The network returns at once. Photographs of 4000x2250 pixels are drawn, and cut into tiles of 512 pixels. Figures are
medians of --repeats, taken one after the other in one run:

scorer_ms    host time of the scoring actor for a tile: from a block of Ray's object store to a block of scores, by way
             of the buffers that a GPU would fetch batches from
writer_ms    time of the writing stage for a tile of a georeferenced image: rows with heat map, footprint, p-value,
             encoded and put into a folder in memory
read_ratio   CPU time of reading through the decoding process and into a block, over that of decoding and cutting alone
job_ratio    tiles a second of `ssvq score` with that network, after Ray's start, over what decoding alone allows on the
             same cores
sample_ms    time of one training sample of 64 pixels from a local tile cache
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
import torch
from rasterio.io import MemoryFile
from torch import Tensor

from ssvq.config import Augmentation, ReadLimits, ScoreConfig, ScoringSettings
from ssvq.imagery.catalog import list_images
from ssvq.imagery.decoder import decoder
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import ImagePart, inspect, plan_units, read_unit
from ssvq.inference.devices import Gpu, Results
from ssvq.inference.scorer import TileScorer
from ssvq.methods.base import Method
from ssvq.model.calibration import calibrate_columns
from ssvq.model.description import Preprocessing
from ssvq.runtime.planning import UNIT
from ssvq.runtime.session import ray_session
from ssvq.scores.data_set import Scores
from ssvq.scores.layout import Partition
from ssvq.scoring.job import score
from ssvq.scoring.reading import read_parts
from ssvq.scoring.stages import ScoreParts
from ssvq.scoring.writer import ScoringRun, write_parts
from ssvq.training.sampling import BatchPlan, make_batch
from ssvq.training.tile_cache import read_index, tile_refs, write_index, write_part
from tests.support.surveys import make_bundle

TILE, WIDTH, HEIGHT = 512, 4000, 2250
TILING = Tiling(tile_size=TILE, stride=TILE)
BATCH, MAP_SIDE = 64, 32
IN_MEMORY = "/dev/shm"
UTM = "EPSG:32633"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=240, help="photographs that the whole job scores")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ssvq-overhead-") as folder:
        figures = measure(Path(folder), arguments.repeats, arguments.images)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<12}{value:.3g}")
    return 0


def measure(folder: Path, repeats: int, images: int) -> dict[str, float]:
    """All figures, by name."""
    survey = draw_survey(folder / "survey", images)
    make_bundle(folder / "bundle", tile_size=TILE)
    figures: dict[str, float] = {}
    with ray_session(debug=False):
        unit = plan_units([(source, inspect(source)) for source in islice(list_images(str(survey), "-"), 3)], TILING)[0]
        block = ray.get(ray.put(_read(unit)))
        scored = ScoreParts(_settings(folder), Unwatched(), instant_scorer)(block)  # type: ignore[arg-type]
        figures["scorer_ms"] = _median(repeats, lambda: scorer_ms(folder, block))
        figures["writer_ms"] = _median(repeats, lambda: writer_ms(scored))
        figures["read_ratio"] = _median(repeats, lambda: read_ratio(unit))
        figures["job_ratio"] = _median(repeats, lambda: job_ratio(folder, survey, unit))
    figures["sample_ms"] = _median(repeats, lambda: sample_ms(plan_of_crops(folder / "cache", unit)))
    return figures


def draw_survey(folder: Path, images: int) -> Path:
    """Photographs that take as long to decode as real ones; the others are links to the first few."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(images):
        path = folder / f"{number:05}.jpg"
        if number >= 4:
            os.link(folder / f"{number % 4:05}.jpg", path)
            continue
        coarse = rng.integers(0, 256, (HEIGHT // 25, WIDTH // 25, 3), np.uint8).repeat(25, axis=0).repeat(25, axis=1)
        noisy = np.clip(coarse.astype(np.int16) + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)
        with MemoryFile() as memory:
            size = {"width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8"}
            with memory.open(driver="JPEG", quality=85, **size) as dataset:
                dataset.write(np.moveaxis(noisy, -1, 0))
            path.write_bytes(memory.read())
    return folder


class Unwatched:
    """In the place of a dispatcher: nothing is tried again here."""

    def begin(self, work: str) -> Any:
        """A first attempt."""
        return _FIRST

    def warn(self, text: str) -> None:
        """Nobody to tell."""


class _First:
    earlier: tuple[str, ...] = ()
    is_over = False


_FIRST = _First()


class InstantMethod(Method):
    """A network that takes no time is not asked."""

    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Any:
        """Not called."""
        raise AssertionError


class InstantScorer(TileScorer):
    """A scorer whose batches return at once, filled as those of a GPU are."""

    def __init__(self) -> None:
        preprocessing = Preprocessing(tile_size=TILE, mean=(0.5,) * 3, std=(0.25,) * 3)
        super().__init__(InstantMethod(), preprocessing, 1, torch.device("cpu"), "fp32")
        self._runner = Gpu(self._score_batch, BATCH, self.device)

    def _score_batch(self, pixels: Tensor, valid: Tensor | None) -> Results:
        return _RESULTS


_RESULTS = (*[torch.ones(BATCH)] * 3, torch.ones(BATCH, MAP_SIDE, MAP_SIDE, dtype=torch.half))


def instant_scorer(config: ScoringSettings) -> TileScorer:
    """As `stages.load_scorer`."""
    return InstantScorer()


def _settings(folder: Path) -> ScoreConfig:
    return ScoreConfig(survey=str(folder / "survey"), model=str(folder / "bundle"), out=str(folder / "scores"))


def _median(repeats: int, figure: Callable[[], float]) -> float:
    figure()  # the first is slower
    return statistics.median(figure() for _ in range(repeats))


def _read(unit: list[ImagePart]) -> pa.Table:
    row = {"parts": [part.to_json() for part in unit], "errors": [None] * len(unit)}
    (block,) = read_parts(pa.Table.from_pylist([row], UNIT), ReadLimits(), 4, Unwatched())  # type: ignore[arg-type]
    return block


def _tiles(unit: list[ImagePart]) -> int:
    return sum(len(part.block) for part in unit)


def scorer_ms(folder: Path, block: pa.Table, calls: int = 20) -> float:
    """Milliseconds a tile of the scoring actor."""
    actor = ScoreParts(_settings(folder), Unwatched(), instant_scorer)  # type: ignore[arg-type]
    actor(block)
    started = time.perf_counter()
    for _ in range(calls):
        actor(block)
    seconds = time.perf_counter() - started
    actor.scorer.close()
    return 1000 * seconds / calls / sum(block["tiles"][0].as_py())


def writer_ms(scored: pa.Table, calls: int = 10) -> float:
    """Milliseconds a tile of the writing stage, of images with a place."""
    parts = [ImagePart.from_json(text) for text in scored["parts"][0].as_py()]
    for part in parts:
        assert part.header is not None
    placed = [
        replace(part, header=replace(part.header, crs=UTM, transform=(0.02, 0, 5e5, 0, -0.02, 6e6))).to_json()
        for part in parts
        if part.header is not None
    ]
    scored = scored.set_column(0, "parts", pa.array([placed], pa.list_(pa.string())))
    values = np.linspace(0, 2, 1000)
    calibration = calibrate_columns(np.stack([values, values], axis=1), np.arange(1000) >= 900, "score")
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as out:
        run = ScoringRun(Partition(out, "survey", "0" * 16, TILING.tiling_id), "survey", "run", calibration)
        started = time.perf_counter()
        for _ in range(calls):
            write_parts(scored, run)
        seconds = time.perf_counter() - started
    return 1000 * seconds / calls / sum(scored["tiles"][0].as_py())


def read_ratio(unit: list[ImagePart], calls: int = 3) -> float:
    """CPU time of reading into blocks over that of decoding and cutting alone."""
    _read(unit)
    child = psutil.Process(decoder(ReadLimits())._child.pid)  # type: ignore[union-attr]
    before = _cpu(psutil.Process()) + _cpu(child)
    for _ in range(calls):
        _read(unit)
    reading = _cpu(psutil.Process()) + _cpu(child) - before
    before = _cpu(psutil.Process())
    for _ in range(calls):
        _decode(unit)
    return reading / (_cpu(psutil.Process()) - before)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _decode(unit: list[ImagePart]) -> int:
    """Decode and cut in this process."""
    return sum(len(tiles.pixels) for _, tiles in read_unit(unit) if not isinstance(tiles, Exception))


def decoding_rate(unit: list[ImagePart], calls: int = 4) -> float:
    """Tiles a second that all cores decode and cut, with nothing else to do."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(_decode, [unit] * cores))
        started = time.perf_counter()
        tiles = sum(pool.map(_decode, [unit] * cores * calls))
        return tiles / (time.perf_counter() - started)


def job_ratio(folder: Path, survey: Path, unit: list[ImagePart]) -> float:
    """Tiles a second of the whole job over those of decoding alone."""
    allowed = decoding_rate(unit)
    out = folder / "scores"
    shutil.rmtree(out, ignore_errors=True)
    score(_settings(folder), make_scorer=instant_scorer)
    (run,) = (out / "runs").iterdir()
    summary = json.loads(run.read_text())["summary"]
    assert Scores(str(out)).sql("SELECT count(*) AS n FROM tiles")["n"][0].as_py() == summary["tiles"]
    print(
        f"{summary['tiles']} tiles in {summary['scoring_seconds']} s; decoding allows {allowed:.0f} a second",
        file=sys.stderr,
    )
    return float(summary["tiles"] / summary["scoring_seconds"] / allowed)


def plan_of_crops(cache: Path, unit: list[ImagePart]) -> BatchPlan:
    """Normal and anomalous tiles in a cache, to be cropped."""
    rows: list[dict[str, object]] = []
    if not cache.exists():
        for part, tiles in read_unit(unit):
            if not isinstance(tiles, Exception):
                classes = np.zeros(tiles.pixels.shape[:3], np.uint8)
                classes[::2, : TILE // 2 + 64] = 1
                rows += write_part(str(cache), part, replace(tiles, classes=classes))
        write_index(str(cache), rows)
    index = read_index(str(cache))
    assert index is not None
    anomalous = index["anomalous_fraction"].to_numpy() >= 0.5
    return BatchPlan(
        cache=str(cache),
        normal=tile_refs(index, np.flatnonzero(~anomalous)),
        anomalous=tile_refs(index, np.flatnonzero(anomalous)),
        tile_size=TILE,
        sample_size=64,
        anomalous_fraction=0.5,
        normal_limit=1.0,
        normal_in_batch=64,
        anomalous_in_batch=64,
        augmentation=Augmentation(),
        seed=0,
    )


def sample_ms(plan: BatchPlan, steps: int = 30) -> float:
    """Milliseconds of a sample, half of them of anomalous tiles."""
    make_batch(plan, 0, 0, 1)
    started = time.perf_counter()
    for step in range(steps):
        make_batch(plan, step, 0, 1)
    return 1000 * (time.perf_counter() - started) / steps / (plan.normal_in_batch + plan.anomalous_in_batch)


if __name__ == "__main__":
    sys.exit(main())
