"""`ssvq score --dry-run`: prints what a run would do, and how long it would take at a measured rate."""

import json
import time
from datetime import timedelta
from itertools import chain

import numpy as np

from ssvq.errors import ImageError
from ssvq.imagery.catalog import SourceImage
from ssvq.inference.scorer import TileScorer
from ssvq.io import storage
from ssvq.runtime.planning import ImageStream, units_of
from ssvq.runtime.session import ray_session
from ssvq.scores.layout import runs_folder
from ssvq.scoring.plan import ScorePlan
from ssvq.scoring.settings import ScoreConfig

RUNS_LOOKED_AT = 50
TILES_THAT_TELL = 200  # a shorter run mostly measures its own start


def describe(plan: ScorePlan, config: ScoreConfig) -> None:
    """Print what a run would do. Reads the headers of the images to score, and writes nothing."""
    tiles = size = images = more_pages = 0
    failed: list[tuple[SourceImage, ImageError]] = []
    if plan.to_score:
        with ray_session(debug=config.debug), ImageStream(plan.todo()) as stream:
            units = stream.units(plan.tiling, plan.bundle.preprocessing.pixels, config.read)
            for batch in units.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for part, error in chain.from_iterable(units_of(batch)):
                    stream.end(1 / part.count)
                    if error is not None:
                        failed.append((part.source, error))
                        continue
                    tiles += len(part.block)
                    if part.index == 0:
                        images, size = images + 1, size + part.source.size
                        more_pages += part.header.pages - 1 if part.header else 0
            stream.check()
    print(plan)
    if config.prune:
        print(f"to remove: the scores of {len(plan.removed)} images that are no longer in the survey")
    if not plan.to_score:
        return
    print(f"to score: {tiles} tiles of {images} images; to read: {size / 1e6:.1f} MB")
    print_more_pages(more_pages)
    for source, error in failed:
        print(f"will fail: {source.uri} ({error.stage}): {error.message}")
    rate, where = _rate(plan, config)
    print(f"estimate: {timedelta(seconds=round(tiles / rate))} at {rate:.1f} tiles a second, {where}")


def print_more_pages(number: int) -> None:
    """Print how many pages of TIFFs a run skips, if there are any."""
    if number:
        print(f"{number} further pages of TIFFs are not scored, only the first page of each: split such files")


def _rate(plan: ScorePlan, config: ScoreConfig) -> tuple[float, str]:
    """Tiles a second, and where the rate was measured: in the latest run of this model, or here and now."""
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
    batch = np.random.default_rng(0).integers(0, 256, (scorer.batch_size, size, size, 3), np.uint8)
    scorer.score(batch)  # the first batch is slower
    started = time.perf_counter()
    scorer.score(batch)
    return len(batch) / (time.perf_counter() - started), "the model alone, measured on this machine"
