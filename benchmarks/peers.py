"""Other tools on the same tiles: anomalib's PatchCore beside patch-knn and a bundle of ss-vq-vae.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch==2.13.0 anomalib==2.7.0
    ssvq train --images D/images --masks D/masks --out bundle --test-fraction 0.3 --allow-failed-images
    python -m benchmarks.peers --model bundle --peers /tmp/peers/bin/python

All have the weights of tf_efficientnet_lite0, its levels with cells of 8 and 16 pixels, and tiles at half size.
PatchCore and patch-knn are fitted to the same tiles without any anomalous pixel, of the training split, and remember as
many cells; the bundle had the masks too. Figures are of the tiles of the test split, as in docs/results/accuracy.md:
the mean over a tile tells "50 %", the worst cells (PatchCore's own score) tell "5 %".

EfficientAD is not among them: it begins with weights of a teacher that anomalib fetches from the network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from ssvq.config import Architecture, Memory
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.grid import Tiling
from ssvq.imagery.manifest import read_manifest
from ssvq.imagery.meaning import Meaning
from ssvq.imagery.units import inspect, plan_units, read_unit
from ssvq.inference.scorer import TileScorer, normalise
from ssvq.methods.patch_knn import PatchKnn
from ssvq.model.bundle import read_description
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import PACKAGED
from ssvq.model.encoders.weights import find_weights
from ssvq.model.metrics import auroc

TILE, BATCH = 512, 16
ARCHITECTURE = Architecture(encoder=PACKAGED, scale=0.5)
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="bundle of ss-vq-vae, with its manifest.csv")
    parser.add_argument("--peers", required=True, help="Python that has anomalib")
    parser.add_argument("--tiles", type=int, default=100, help="normal tiles that are fitted to")
    parser.add_argument("--cells", type=int, default=5000, help="cells that are remembered")
    arguments = parser.parse_args()
    images = read_manifest(f"{arguments.model}/manifest.csv", Meaning())[0]
    train, share = tiles_of([image for image in images if image.split == "train"])
    clean = np.flatnonzero(share == 0)
    train = train[np.random.default_rng(0).permutation(clean)[: arguments.tiles]]
    test, share = tiles_of([image for image in images if image.split == "test"])
    print(f"{len(train)} tiles without an anomaly to fit to, {len(test)} tiles to test", flush=True)
    preprocessing = read_description(arguments.model).preprocessing
    print("| tool | 50 % | against clean | 5 % | seconds of fitting | tiles/s |\n|---|---|---|---|---|---|")
    scorer = TileScorer.from_bundle(arguments.model, None)
    print(row("ss-vq-vae, with masks", share, *scores_of(scorer, test), None), flush=True)
    print(row("patch-knn", share, *patch_knn(train, test, arguments.cells, preprocessing)), flush=True)
    print(row("PatchCore of anomalib", share, *patchcore(arguments, train, test, preprocessing)), flush=True)
    return 0


def tiles_of(images: list[SourceImage]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Tiles of labelled images that can be read, and their shares of anomalous pixels."""
    tiles, shares = [], []
    for image in images:
        try:
            units = plan_units([(image, inspect(image))], Tiling(tile_size=TILE, stride=TILE))
            read = [found for unit in units for _, found in read_unit(unit)]
        except Exception as error:  # noqa: BLE001 - masks of another size, which the data has
            print(f"left out: {image.path} ({error})", file=sys.stderr)
            continue
        for found in read:
            if not isinstance(found, Exception) and found.classes is not None:
                tiles.append(found.pixels)
                shares.append(found.anomalous_fraction)
    return np.concatenate(tiles), np.concatenate(shares)


def scores_of(scorer: TileScorer, tiles: NDArray[np.uint8]) -> tuple[Scores, float]:
    """Scores of tiles, mean and worst, and tiles a second."""
    scorer.score(tiles[:BATCH])
    started = time.perf_counter()
    found = scorer.score(tiles)
    return (found.score.astype(float), found.score_worst.astype(float)), len(tiles) / (time.perf_counter() - started)


def patch_knn(
    train: NDArray[np.uint8], test: NDArray[np.uint8], cells: int, preprocessing: Preprocessing
) -> tuple[Scores, float, float]:
    """Scores, tiles a second and seconds of fitting of this project's nearest normal cell."""
    started = time.perf_counter()
    method = PatchKnn(ARCHITECTURE, Memory(samples=len(train), candidates=10**9, cells=cells)).eval()
    method.encoder.load_network(find_weights(ARCHITECTURE).tensors)
    method.fit(normalise(torch.from_numpy(train), preprocessing), torch.empty(0), 0)
    seconds = time.perf_counter() - started
    return *scores_of(TileScorer(method, preprocessing, None, torch.device("cpu"), "fp32"), test), seconds


def patchcore(
    arguments: argparse.Namespace, train: NDArray[np.uint8], test: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[Scores, float, float]:
    """The same of anomalib, in a process of its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        for name, tiles in (("train", train), ("test", test)):
            np.save(f"{folder}/{name}.npy", tiles)
        weights = {name: tensor.contiguous() for name, tensor in find_weights(ARCHITECTURE).tensors.items()}
        save_file(weights, f"{folder}/weights.safetensors")
        settings = {"cells": arguments.cells, "mean": preprocessing.mean, "std": preprocessing.std}
        Path(folder, "settings.json").write_text(json.dumps(settings))
        script = Path(__file__).with_name("peers_patchcore.py")
        subprocess.run([arguments.peers, str(script), folder], check=True)
        times = json.loads(Path(folder, "times.json").read_text())
        mean, worst = np.load(f"{folder}/scores.npy")
    return (mean, worst), len(test) / times["scoring"], times["fitting"]


def row(name: str, share: NDArray[np.float64], scores: Scores, tiles_per_second: float, seconds: float | None) -> str:
    """A line of the table: the mean tells "50 %", the worst cells "5 %"."""
    mean, worst = scores
    half, some = share >= 0.5, share >= 0.05
    clean, clear = half | (share == 0), some | (share == 0)
    figures = (auroc(mean, half), auroc(mean[clean], half[clean]), auroc(worst[clear], some[clear]))
    fitted = "" if seconds is None else f"{seconds:.0f}"
    return f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {fitted} | {tiles_per_second:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
