"""`ssvq score --dry-run`: what a run would do, and how long it would take at a rate that was measured."""

import json
import time
from datetime import timedelta

import numpy as np

from ssvq import storage
from ssvq.config import ScoreConfig
from ssvq.imagery.grid import TileGrid
from ssvq.pipeline import inspect_images
from ssvq.ray_session import ray_session
from ssvq.scoring.layout import runs_folder
from ssvq.scoring.plan import ScorePlan
from ssvq.scoring.scorer import TileScorer

RUNS_LOOKED_AT = 50
TILES_THAT_TELL = 200  # the rate of a shorter run is that of its start


def describe(plan: ScorePlan, config: ScoreConfig) -> None:
    """Print what a run would do; nothing is written. The headers of the images to do are read."""
    print(plan)
    if config.prune:
        print(f"to remove: the scores of {len(plan.removed)} images that are no longer in the survey")
    if not plan.todo:
        return
    with ray_session(debug=config.debug):
        headers, failed = inspect_images(plan.todo, config.read)
    tiles = sum(len(TileGrid(header.width, header.height, plan.tiling)) for _, header in headers)
    size = sum(source.size for source, _ in headers)
    print(f"to score: {tiles} tiles of {len(headers)} images; to read: {size / 1e6:.1f} MB")
    for source, error in failed:
        print(f"will fail: {source.uri} ({error.stage}): {error.message}")
    rate, where = _rate(plan, config)
    print(f"estimate: {timedelta(seconds=round(tiles / rate))} at {rate:.1f} tiles a second, {where}")


def _rate(plan: ScorePlan, config: ScoreConfig) -> tuple[float, str]:
    """Tiles a second, and where they were measured: in the latest run of this model, else here and now."""
    folder = runs_folder(config.out)
    for info in sorted(storage.list_files(folder), key=lambda info: info.path, reverse=True)[:RUNS_LOOKED_AT]:
        run = json.loads(storage.read_text(storage.join(folder, info.path)))
        summary = run.get("summary") or {}
        if run.get("model_id") == plan.bundle.model_id and summary.get("tiles", 0) >= TILES_THAT_TELL:
            return summary["tiles"] / summary["scoring_seconds"], f"as in run {run['run_id']}"
    scorer = TileScorer.from_bundle(
        config.model, config.batch_size, config.device, config.precision, compile=config.compile
    )
    size = plan.tiling.tile_size
    batch = np.random.default_rng(0).integers(0, 256, (config.batch_size, size, size, 3), np.uint8)
    scorer.score(batch)  # the first is slower
    started = time.perf_counter()
    scorer.score(batch)
    return len(batch) / (time.perf_counter() - started), "the model alone, measured on this machine"
