"""How fast the encoders score: tiles a second of the scorer alone, on this machine's CPU or GPU.

    python -m benchmarks.encoders
    python -m benchmarks.encoders --repeats 5 --tiles 64

Tiles of 512 pixels are in memory, and weights are untrained: time does not depend on them. Rows alternate, and medians
are compared; each has the arithmetic that `--precision auto` gives it.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch

from ssvq.config import Architecture, CodebookSettings, Objective
from ssvq.inference.scorer import TileScorer
from ssvq.methods.build import build_method
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import PACKAGED, PAPER, cell_of, is_bounded
from ssvq.model.precision import resolve_device, resolve_precision

TILE = 512
ROWS = {
    "paper": Architecture(encoder=PAPER),
    f"{PACKAGED}, half size (the default)": Architecture(encoder=PACKAGED, scale=0.5),
    f"{PACKAGED}, full size": Architecture(encoder=PACKAGED, scale=1.0),
}


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=32, help="tiles in a measurement")
    arguments = parser.parse_args()
    tiles = np.random.default_rng(0).integers(0, 256, (arguments.tiles, TILE, TILE, 3), np.uint8)
    scorers = {name: make_scorer(architecture) for name, architecture in ROWS.items()}
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for scorer in scorers.values():
        scorer.score(tiles)
    for _ in range(arguments.repeats):
        for name, scorer in scorers.items():
            started = time.perf_counter()
            scorer.score(tiles)
            found[name].append(len(tiles) / (time.perf_counter() - started))
    for line in table(found, {name: scorer.precision for name, scorer in scorers.items()}):
        print(line)
    return 0


def make_scorer(architecture: Architecture) -> TileScorer:
    """A scorer of an untrained ss-vq-vae."""
    sections = {"architecture": architecture, "objective": Objective(), "codebook": CodebookSettings()}
    method = build_method("ss-vq-vae", {name: section.model_dump() for name, section in sections.items()})
    method.eval()
    if method.backbone is not None:
        method.backbone.fold()
    device = resolve_device("auto")
    encoder = architecture.encoder
    precision = resolve_precision("auto", device, pretrained=encoder != PAPER, bounded=is_bounded(encoder))
    preprocessing = Preprocessing(tile_size=TILE, cell=cell_of(architecture), mean=(0.5,) * 3, std=(0.5,) * 3)
    return TileScorer(method, preprocessing, None, device, precision)


def table(found: dict[str, list[float]], precisions: dict[str, str]) -> Iterator[str]:
    """Markdown: medians with least and most, and the ratio to the paper's encoder."""
    paper = statistics.median(found["paper"])
    yield f"{os.cpu_count()} cores, device {resolve_device('auto')}, torch {torch.__version__}\n"
    yield "| encoder | arithmetic | tiles a second: median (least to most) | to the paper's |"
    yield "|---|---|---|---|"
    for name, rates in found.items():
        median = statistics.median(rates)
        yield (
            f"| {name} | {precisions[name]} | {median:.1f} ({min(rates):.1f} to {max(rates):.1f}) "
            f"| {median / paper:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
