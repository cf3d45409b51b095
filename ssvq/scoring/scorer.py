"""One model on one device: tiles in, scores out. Knows nothing of Ray or files beyond the bundle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssvq.config import Device, Precision
from ssvq.errors import InputError
from ssvq.methods import load_method
from ssvq.methods.base import Method, Score
from ssvq.model import bundle as bundles
from ssvq.model.bundle import Preprocessing
from ssvq.model.precision import autocast, full_fp32, resolve_device, resolve_precision
from ssvq.scoring.devices import Batch, runner_for

MAP_SIDE = 32  # most cells on a side of a stored score map
PIXELS_OF_A_CORE = 512**2  # activations of so many, some 40 MB, are about what a core's share of the cache can hold

BatchScores = tuple[Tensor, Tensor | None, Tensor | None]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class TileScores:
    """score, score_max: float32 (n,), NaN without a valid cell. score_map: float16 (n, side, side) or None."""

    score: NDArray[np.float32]
    score_max: NDArray[np.float32]
    score_map: NDArray[np.float16] | None


class TileScorer:
    """Scores tiles in batches of one fixed shape: kernels choose their order of summation by shape, so a tile
    has the same score whatever else is in its batch.

    `batch_size`: most tiles in a batch. On a CPU, where each core works on a batch of its own, a batch has no more
    pixels than `PIXELS_OF_A_CORE`. `compile`: have torch.compile fuse the network's layers, which takes about a minute
    at the start and a C++ compiler.
    """

    def __init__(
        self,
        method: Method,
        preprocessing: Preprocessing,
        batch_size: int,
        device: torch.device,
        precision: str,
        *,
        compile: bool = False,
    ) -> None:
        self.method = method.to(device).eval()
        self.preprocessing, self.batch_size = preprocessing, batch_size
        self.device, self.precision = device, precision
        self._runner = runner_for(device)
        self._in_batch = batch_size
        if device.type == "cpu":
            self._in_batch = min(batch_size, max(1, PIXELS_OF_A_CORE // preprocessing.tile_size**2))
        self._score: Callable[[Tensor, Tensor | None], Score] = self.method.score
        if compile:
            self._compile()

    @classmethod
    def from_bundle(
        cls,
        location: str,
        batch_size: int,
        device: Device = "auto",
        precision: Precision = "auto",
        *,
        compile: bool = False,
    ) -> "TileScorer":
        """Load a bundle onto a device. Raises InputError for a bundle, device or compiler that is not there."""
        description = bundles.read_description(location)
        method = load_method(location, description)
        target = resolve_device(device)
        resolved = resolve_precision(precision, target)
        return cls(method, description.preprocessing, batch_size, target, resolved, compile=compile)

    def score(self, pixels: NDArray[np.uint8], valid_cells: NDArray[np.bool_] | None = None) -> TileScores:
        """Scores of tiles uint8 (n, t, t, 3); cells that are not valid, bool (n, h, w), are left out."""
        batches = self._runner.map(self._score_batch, self._batches(pixels, valid_cells))
        return _joined(list(batches), len(pixels))

    def _batches(self, pixels: NDArray[np.uint8], valid_cells: NDArray[np.bool_] | None) -> Iterator[Batch]:
        for start in range(0, len(pixels), self._in_batch):
            rows = slice(start, start + self._in_batch)
            yield self._filled(pixels[rows]), None if valid_cells is None else self._filled(valid_cells[rows])

    def _filled(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Up to the fixed shape, by repeating the last entry."""
        missing = self._in_batch - len(array)
        return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array

    @torch.inference_mode()
    def _score_batch(self, pixels: Tensor, valid: Tensor | None) -> BatchScores:
        """Score, largest distance and map of each tile of a batch, on its device."""
        images = normalise(pixels, self.preprocessing)
        with autocast(self.precision, self.device), full_fp32(self.device):
            score, cells = self._score(images, valid)
        if cells is None:
            return score.float(), None, None
        inside = cells if valid is None else cells.masked_fill(~valid, float("-inf"))
        largest = inside.amax((1, 2)).float()
        largest = largest.masked_fill(largest.isneginf(), float("nan"))
        return score.float(), largest, pool_cells(cells, valid).half()

    def _compile(self) -> None:
        """Compile the method's score by scoring a first tile. Raises InputError where that cannot be done."""
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to load, in every process of a job

        self._score = torch.compile(self.method.score, dynamic=False)
        side = self.preprocessing.tile_size
        try:
            self.score(np.zeros((1, side, side, 3), np.uint8))
        except TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise InputError(
                f"--compile: torch.compile failed ({reason}); install a C++ compiler, or leave --compile out"
            ) from error


def _joined(results: list[BatchScores], n: int) -> TileScores:
    """The scores of n tiles from the batches that hold them, brought back from the device together."""
    if not results:
        return TileScores(np.empty(0, np.float32), np.empty(0, np.float32), None)
    scores, maxima, maps = zip(*results, strict=True)
    score = _array(scores, n)
    return TileScores(
        score=score,
        score_max=score if maxima[0] is None else _array(maxima, n),
        score_map=None if maps[0] is None else _array(maps, n),
    )


def _array(batches: tuple[Tensor, ...], n: int) -> NDArray[Any]:
    return torch.cat(batches)[:n].cpu().numpy()


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (n, h, w, 3) to the network's input, float32 (n, 3, h, w) in channels-last order."""
    n, height, width, channels = pixels.shape
    # A row of pixels is one run of numbers, so that it is worked on many numbers at a time, and not three.
    mean = torch.tensor(preprocessing.mean, device=pixels.device).mul(255).repeat(width)
    scale = torch.tensor(preprocessing.std, device=pixels.device).mul(255).repeat(width)
    rows = pixels.reshape(n, height, width * channels).float().sub_(mean).div_(scale)
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def pool_cells(cells: Tensor, valid: Tensor | None) -> Tensor:
    """Cell distances (n, h, w) pooled by root mean square over valid cells to at most MAP_SIDE a side.

    A pooled cell without a valid cell is NaN.
    """
    factor = -(-max(cells.shape[1:]) // MAP_SIDE)
    if factor == 1 and valid is None:
        return cells
    share = torch.ones_like(cells) if valid is None else valid.to(cells)
    pooled = [F.avg_pool2d(plane[:, None], factor, ceil_mode=True)[:, 0] for plane in (cells.square() * share, share)]
    return (pooled[0] / pooled[1]).sqrt()
