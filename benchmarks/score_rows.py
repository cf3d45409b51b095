"""One row of `benchmarks.score`, in a process of its own: prints what it measured as one line of JSON.

The job and its rivals are run on a small survey, twice, and on a large one: what the large one takes longer than the
second run of the small one counts, and the start falls out. Rivals are written as the examples of Ray Data and PyTorch
have it, with every core at work.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import rasterio
import ray
import torch
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ssvq.config import ScoreConfig
from ssvq.imagery.catalog import list_images
from ssvq.imagery.grid import TileGrid, Tiling
from ssvq.imagery.pixel_rule import AS_STORED
from ssvq.imagery.raster import open_raster
from ssvq.imagery.tiles import cut_tiles
from ssvq.inference.scorer import TileScorer
from ssvq.methods.build import SECTIONS, method_class
from ssvq.methods.ss_vqvae import SSVQVAE
from ssvq.model import bundle as bundles
from ssvq.model.precision import DTYPES, autocast
from ssvq.runtime.session import MIN_LOGICAL_CPUS, ray_session
from ssvq.scoring.job import score

CPU = torch.device("cpu")
CORES = os.cpu_count() or 1
SIDE = 512


def matrix_product(arguments: argparse.Namespace) -> dict[str, float]:
    """How many tiles a second the matrix products of this machine allow: row 5."""
    torch.set_num_threads(CORES)
    scorer = TileScorer.from_bundle(arguments.model, 1, "cpu", "fp32")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        scorer.method.score(torch.zeros(1, 3, SIDE, SIDE))
    work = counter.get_total_flops()
    one = torch.randn(2048, 2048).to(DTYPES[arguments.precision])
    with torch.inference_mode():
        seconds = statistics.median(_seconds(lambda: one @ one) for _ in range(30))
    rate = 2 * len(one) ** 3 / seconds
    return {"rate": rate / work, "gflop_per_s": rate / 1e9, "gflop": work / 1e9}


def scorer(arguments: argparse.Namespace) -> dict[str, float]:
    """The scorer on tiles in memory: row 1."""
    torch.set_num_threads(CORES)
    scorer = TileScorer.from_bundle(arguments.model, 16, "cpu", arguments.precision)
    tiles = _tiles_of(_images(arguments.small)[0])
    scorer.score(tiles[:8])
    return {"rate": len(tiles) / statistics.median(_seconds(lambda: scorer.score(tiles)) for _ in range(3))}


def decoding(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of one core for a tile that is read and cut."""
    paths = _images(arguments.large)
    _tiles_of(paths[0])
    started = time.process_time()
    tiles = sum(len(_tiles_of(path)) for path in paths)
    return {"seconds": (time.process_time() - started) / tiles}


def job(arguments: argparse.Namespace) -> dict[str, float]:
    """This job: row 2."""

    def run(survey: str, out: Path) -> int:
        config = ScoreConfig(
            survey=survey, model=arguments.model, out=str(out), precision=arguments.precision, device="cpu"
        )
        assert score(config) == 0
        (record,) = (out / "runs").iterdir()  # and not the objects, whose footers would count as the driver's memory
        return json.loads(record.read_text())["summary"]["tiles"]

    with ray_session(debug=False):
        return _difference(arguments, run)


def ray_example(arguments: argparse.Namespace) -> dict[str, float]:
    """Ray's examples of batch inference on images: row 3. One model takes all cores; there are more logical CPUs,
    so that reading goes on beside it.
    """

    def run(survey: str, out: Path) -> int:
        images = ray.data.read_images(survey, mode="RGB", include_paths=True)
        scores = images.flat_map(_cut).map_batches(
            WholeModel,
            fn_constructor_args=[arguments.model],
            batch_size=arguments.rival_batch,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=CORES,  # which Ray makes the number of torch's threads
        )
        scores.write_parquet(str(out))
        return pyarrow.dataset.dataset(out).count_rows()

    ray.init(num_cpus=max(CORES, MIN_LOGICAL_CPUS), include_dashboard=False, log_to_driver=False)
    return _difference(arguments, run)


class WholeModel:
    """The model with its decoder, as in training; a score is the distance of latents from codes."""

    def __init__(self, model: str) -> None:
        self.method = _plain_method(model)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        images = torch.from_numpy(batch["tile"].copy()).permute(0, 3, 1, 2).float() / 255
        latents = self.method.encode(images)
        codes, distances = _nearest(latents, self.method.codebook.codes)
        reconstruction = self.method.decoder(codes)
        return {
            "path": batch["path"],
            "x": batch["x"],
            "y": batch["y"],
            "score": distances.flatten(1).sum(1).sqrt().numpy(),
            "reconstruction": (reconstruction - images).square().mean((1, 2, 3)).numpy(),
        }


def _cut(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    image = row["image"]
    for x, y in _corners(image.shape[1], image.shape[0]):
        yield {"path": row["path"], "x": x, "y": y, "tile": image[y : y + SIDE, x : x + SIDE]}


def data_loader(arguments: argparse.Namespace) -> dict[str, float]:
    """A DataLoader of windows and the encoder in the main process: row 4."""
    torch.set_num_threads(CORES)
    method = _plain_method(arguments.model)

    @torch.inference_mode()
    def run(survey: str, out: Path) -> int:
        scores, places = [], []
        for tiles, where in DataLoader(Windows(survey), arguments.rival_batch, num_workers=CORES):
            images = tiles.permute(0, 3, 1, 2).float() / 255
            with autocast(arguments.precision, CPU):
                latents = method.encode(images)
            scores.append(_nearest(latents, method.codebook.codes)[1].flatten(1).sum(1).sqrt())
            places.append(where)
        out.mkdir()
        table = pa.table({"tile": torch.cat(places).numpy(), "score": torch.cat(scores).numpy()})
        pa.parquet.write_table(table, out / "scores.parquet")
        return len(table)

    return _difference(arguments, run)


class Windows(Dataset[tuple[Tensor, int]]):
    """A window for each tile; a worker keeps the image open that it read last, so that GDAL keeps decoded rows."""

    def __init__(self, survey: str) -> None:
        self.path = ""
        self.image: DatasetReader | None = None
        self.places: list[tuple[str, int, int]] = []
        for path in _images(survey):
            with rasterio.open(path) as image:
                self.places += [(path, x, y) for x, y in _corners(image.width, image.height)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, x, y = self.places[index]
        if path != self.path:
            self.path, self.image = path, rasterio.open(path)
        assert self.image is not None
        pixels = self.image.read([1, 2, 3], window=Window(x, y, SIDE, SIDE))
        return torch.from_numpy(pixels).movedim(0, -1), index


def _nearest(latents: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest codes (n, D, h, w) and squared distances (n, h, w), as the VQ-VAEs at large have it: in one piece."""
    n, dimensions, height, width = latents.shape
    cells = latents.permute(0, 2, 3, 1).reshape(-1, dimensions)
    distances = cells.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * cells @ codes.T
    least, index = distances.min(1)
    nearest = codes[index].view(n, height, width, dimensions).permute(0, 3, 1, 2)
    return nearest, least.view(n, height, width).clamp_min(0)


def _plain_method(model: str) -> SSVQVAE:
    description = bundles.read_description(model)
    sections = {name: SECTIONS[name](**values) for name, values in description.settings.items()}
    method = method_class(description.method)(**sections)
    method.load_state_dict(bundles.read_weights(model, description))
    assert isinstance(method, SSVQVAE)
    return method.eval()


def _corners(width: int, height: int) -> list[tuple[int, int]]:
    columns, rows = (
        [min(at, side - SIDE) for at in range(0, -(-side // SIDE) * SIDE, SIDE)] for side in (width, height)
    )
    return [(x, y) for y in rows for x in columns]


def _images(survey: str) -> list[str]:
    return [image.uri for image in list_images(survey, "--survey")]


def _tiles_of(path: str) -> NDArray[np.uint8]:
    with open_raster(path) as image:
        grid = TileGrid(image.width, image.height, Tiling(tile_size=SIDE, stride=SIDE))
        blocks = grid.blocks(10_000)
        return np.concatenate([cut_tiles(image, grid, block, AS_STORED).pixels for block in blocks])


def _difference(arguments: argparse.Namespace, run: Callable[[str, Path], int]) -> dict[str, float]:
    """Tiles a second, from a small and a large survey; and what a first run takes beside."""
    tiles, seconds = [], []
    for survey in (arguments.small, arguments.small, arguments.large):
        out = Path(arguments.out)
        shutil.rmtree(out, ignore_errors=True)
        started = time.perf_counter()
        tiles.append(run(survey, out))
        seconds.append(time.perf_counter() - started)
    rate = (tiles[2] - tiles[1]) / (seconds[2] - seconds[1])
    return {"rate": rate, "tiles": tiles[2], "start": seconds[0] - tiles[0] / rate}


def scale(arguments: argparse.Namespace) -> dict[str, float]:
    """The job on small images: `large`, less what `small`, of one image, costs; and what the driver held at most."""
    found = job(arguments)
    return {**found, "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


ROWS = (matrix_product, scorer, decoding, job, ray_example, data_loader, scale)


def main() -> int:
    """Measure the named row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=[row.__name__ for row in ROWS])
    for name in ("model", "small", "large", "out", "precision"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rival-batch", type=int, default=16)
    arguments = parser.parse_args()
    measure = next(row for row in ROWS if row.__name__ == arguments.row)
    print(json.dumps(measure(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
