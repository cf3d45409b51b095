"""What a machine with a GPU does of what it could: scorer, job, decoding, training. Under four minutes on one GPU.

    python -m benchmarks.gpu --photographs ../shared/data/drone/*.JPG --out /tmp/gpu
    python -m benchmarks.gpu --photographs ../shared/data/drone/*.JPG --out /tmp/gpu --json

Photographs are repeated under other names (links). Rates are tiles of 512 pixels a second; weights are untrained unless
it is said, since time does not depend on them. Ratios:

scorer      scorer alone, tiles in memory, over what the GPU's bf16 matrix products allow for the network's operations
job         `ssvq score` over the lesser of the scorer and decoding on all cores
job_gpu     the same with --decode gpu, over the lesser of the scorer and decoding on the GPU
train       steps a second of `ssvq train` at crop 64, batch 128, over those of the same steps with samples in memory
difference  the largest relative difference of a score, GPU in bf16 against CPU in fp32, over tiles of the photographs,
            of the paper's encoder after 400 steps on crops of them
decoders    the mean and largest relative difference of a score between tiles decoded on the GPU and on the CPU
same_bytes  whether 5 decodings of the photographs on the GPU gave the same bytes

Without a GPU it runs too, on few tiles, so that the script can be tried: `ray start --head --num-gpus 1`, then with
RAY_ADDRESS=auto. Its figures say nothing then.
"""

import argparse
import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ssvq.config import Architecture, ScoreConfig, TrainConfig
from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import Tiling
from ssvq.imagery.units import ImagePart, inspect, plan_units, read_unit
from ssvq.inference.jpeg import NvJpeg, cut_on_device
from ssvq.inference.scorer import TileScorer
from ssvq.methods.build import load_method
from ssvq.model import bundle as bundles
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import PAPER
from ssvq.runtime.session import ray_session
from ssvq.scoring.job import score
from ssvq.training.engine import Engine
from ssvq.training.job import train
from tests.support.surveys import make_bundle, make_survey

TILE = 512
TILING = Tiling(tile_size=TILE, stride=TILE)
PAPERS = Architecture(encoder=PAPER)
HAS_GPU = torch.cuda.is_available()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=600 if HAS_GPU else 8, help="photographs that the job scores")
    parser.add_argument("--steps", type=int, default=400 if HAS_GPU else 20, help="steps of the training")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = measure(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<24}{value:.4g}" if isinstance(value, float) else f"{name:<24}{value}")
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, by name."""
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    survey = link(arguments.photographs, out / "survey", arguments.images)
    if not (out / "bundle").exists():
        make_bundle(out / "bundle", tile_size=TILE, architecture=PAPERS)
    unit = plan_units([(image, inspect(image)) for image in list_images(str(survey), "-")[:4]], TILING)[0]
    tiles = np.concatenate([read.pixels for _, read in read_unit(unit) if not isinstance(read, Exception)])
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name() if HAS_GPU else "none"}
    scorer = TileScorer.from_bundle(str(out / "bundle"), None)
    many = np.concatenate([tiles] * 10) if HAS_GPU else tiles  # the last batch of a call is seldom full
    figures["scorer_tiles"] = rate(lambda: len(scorer.score(many).score), 3 if HAS_GPU else 1)
    figures["limit_tiles"] = matrix_rate(scorer.device) / operations(out / "bundle")
    scorer.close()
    figures["decoding_tiles"] = decoding_rate(unit)
    photographs = [path.read_bytes() for path in arguments.photographs]
    rounded, exact = trained_scorers(tiles)
    some = tiles[:: len(tiles) // (24 if HAS_GPU else 4)]
    figures["difference"] = differences(rounded, some, exact, some)[1]
    if HAS_GPU:
        figures |= gpu_decoding(photographs, len(tiles) / len({part.source.path for part in unit}))
        picture = NvJpeg(rounded.device).decode(photographs[:1])[0]
        assert picture is not None
        on_cpu = np.asarray(Image.open(arguments.photographs[0]).convert("RGB"))
        ys, xs = (range(0, side - TILE, TILE) for side in on_cpu.shape[:2])
        cut = [cut_on_device(whole, ys, xs, TILE).cpu().numpy() for whole in (torch.from_numpy(on_cpu.copy()), picture)]
        figures["decoders_mean"], figures["decoders"] = differences(rounded, cut[1], rounded, cut[0])
    with ray_session(debug=False):
        figures["job_tiles"] = job(out, survey, decode="cpu")
        if HAS_GPU:
            figures["job_gpu_tiles"] = job(out, survey, decode="gpu")
        figures["train_steps"] = training_rate(out, arguments.steps)
    figures["memory_steps"] = steps_in_memory(out, arguments.steps)
    figures["scorer"] = figures["scorer_tiles"] / figures["limit_tiles"]
    figures["job"] = figures["job_tiles"] / min(figures["scorer_tiles"], figures["decoding_tiles"])
    if HAS_GPU:
        figures["job_gpu"] = figures["job_gpu_tiles"] / min(figures["scorer_tiles"], figures["gpu_decoding_tiles"])
    figures["train"] = figures["train_steps"] / figures["memory_steps"]
    return figures


def trained_scorers(tiles: NDArray[np.uint8]) -> tuple[TileScorer, TileScorer]:
    """Scorers of one model, trained on crops of tiles: on this device, and on the CPU in fp32."""
    mean, deviation = (tuple(map(float, figure / 255)) for figure in (tiles.mean((0, 1, 2)), tiles.std((0, 1, 2))))
    preprocessing = Preprocessing(tile_size=TILE, mean=mean, std=deviation)
    steps = 400 if HAS_GPU else 3
    config = TrainConfig(images="-", out="-", tile_size=TILE, crop=64, batch_size=128, steps=steps, architecture=PAPERS)
    engine, rng = Engine(config, preprocessing), np.random.default_rng(0)

    def crops(number: int) -> NDArray[np.uint8]:
        corners = zip(rng.integers(len(tiles), size=number), *rng.integers(TILE - 64, size=(2, number)), strict=True)
        return np.stack([tiles[tile, y : y + 64, x : x + 64] for tile, y, x in corners])

    engine.start(crops(64))
    for step in range(steps):
        engine.step(step, crops(64), tiles[:0, :64, :64])
    method = engine.scored.requires_grad_(False)
    on_cpu = TileScorer(copy.deepcopy(method).cpu(), preprocessing, None, torch.device("cpu"), "fp32")
    return TileScorer(method, preprocessing, None, engine.device, engine.precision), on_cpu


def differences(
    scorer: TileScorer, tiles: NDArray[np.uint8], other: TileScorer, others: NDArray[np.uint8]
) -> tuple[float, float]:
    """Mean and largest relative difference of the scores of the same tiles, as two scorers or decoders have them."""
    found = np.abs(scorer.score(tiles).score / other.score(others).score - 1)
    return float(found.mean()), float(found.max())


def link(photographs: Sequence[Path], folder: Path, images: int) -> Path:
    """A survey of so many images, links to a few photographs."""
    if not folder.exists():
        folder.mkdir(parents=True)
        copies = [shutil.copy(path, folder / f"{number:05}.jpg") for number, path in enumerate(photographs)]
        for number in range(len(copies), images):
            os.link(copies[number % len(copies)], folder / f"{number:05}.jpg")
    return folder


def rate(work: Callable[[], int], repeats: int) -> float:
    """Things a second that some work does."""
    work()
    started = time.perf_counter()
    done = sum(work() for _ in range(repeats))
    return done / (time.perf_counter() - started)


def matrix_rate(device: torch.device, side: int = 8192 if HAS_GPU else 1024) -> float:
    """Operations a second of large bf16 matrix products."""
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def multiply() -> int:
        for _ in range(20 if HAS_GPU else 2):
            matrix @ matrix
        if HAS_GPU:
            torch.cuda.synchronize()
        return 2 * side**3 * (20 if HAS_GPU else 2)

    return rate(multiply, 3)


def operations(bundle: Path) -> int:
    """Operations of the network for one tile."""
    method = load_method(str(bundle), bundles.read_description(str(bundle))).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        method.score(torch.zeros(1, 3, TILE, TILE))
    return int(counter.get_total_flops())


def _decode(unit: list[ImagePart]) -> int:
    return sum(len(tiles.pixels) for _, tiles in read_unit(unit) if not isinstance(tiles, Exception))


def decoding_rate(unit: list[ImagePart]) -> float:
    """Tiles a second that all cores decode and cut."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        return rate(lambda: sum(pool.map(_decode, [unit] * cores)), 2)


def gpu_decoding(files: list[bytes], tiles_in_image: float) -> dict[str, Any]:
    """Tiles a second that the GPU decodes, and whether it always gives the same bytes."""
    decoder = NvJpeg(torch.device("cuda"))
    first = decoder.decode(files)
    same = True
    for _ in range(5):
        again = decoder.decode(files)
        same &= all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(first, again, strict=True))
    many = files * (32 // len(files))
    per_second = rate(lambda: len(decoder.decode(many)), 4)
    return {"gpu_decoding_tiles": per_second * tiles_in_image, "same_bytes": same}


def job(out: Path, survey: Path, **settings: Any) -> float:
    """Tiles a second of `ssvq score`, after Ray's start."""
    scores = out / "scores"
    shutil.rmtree(scores, ignore_errors=True)
    score(ScoreConfig(survey=str(survey), model=str(out / "bundle"), out=str(scores), **settings))
    (run,) = (scores / "runs").iterdir()
    summary = json.loads(run.read_text())["summary"]
    return float(summary["tiles"] / summary["scoring_seconds"])


def training(out: Path, steps: int) -> TrainConfig:
    """Settings of a training that is fed crops of 64 pixels."""
    labelled = out / "labelled"
    if not labelled.exists():
        make_survey(labelled, images=24, height=2 * TILE, width=2 * TILE)
    return TrainConfig(
        images=str(labelled / "images"),
        masks=str(labelled / "masks"),
        out=str(out / "trained"),
        architecture=PAPERS,
        tile_size=TILE,
        crop=64,
        batch_size=128,
        steps=steps,
        validate_every=steps,
        log_every=max(1, steps // 40),
        validation_tiles=16,
        calibration_tiles=16,
    )


def training_rate(out: Path, steps: int) -> float:
    """Steps a second of `ssvq train`, from the end of its first tenth."""
    shutil.rmtree(out / "trained", ignore_errors=True)
    train(training(out, steps))
    rows = [json.loads(line) for line in (out / "trained" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if steps // 10 <= row["step"] < steps]
    return float((rows[-1]["step"] - rows[0]["step"]) / (rows[-1]["time"] - rows[0]["time"]))


def steps_in_memory(out: Path, steps: int) -> float:
    """Steps a second of the same training on samples that are there."""
    engine = Engine(training(out, steps), Preprocessing(tile_size=TILE, mean=(0.5,) * 3, std=(0.25,) * 3))
    samples: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 64, 3), np.uint8)
    engine.start(samples[0])

    def work() -> int:
        for step in range(steps // 2):
            engine.step(step, samples[0], samples[1])
        if HAS_GPU:
            torch.cuda.synchronize()
        return steps // 2

    return rate(work, 1)


if __name__ == "__main__":
    sys.exit(main())
