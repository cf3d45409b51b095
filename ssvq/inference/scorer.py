"""One model on one device: tiles in, scores out. It knows neither Ray nor any file except the bundle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssvq.errors import InputError, reason_of
from ssvq.inference.devices import Cells, Pixels, Results, runner_for
from ssvq.inference.jpeg import JpegDecoder, NvJpeg
from ssvq.inference.memory import batch_for
from ssvq.io import storage
from ssvq.methods.base import WORST_SHARE, Method, Score
from ssvq.methods.build import load_method
from ssvq.model import bundle as bundles
from ssvq.model.description import Preprocessing
from ssvq.model.encoders import is_bounded
from ssvq.model.precision import autocast, full_fp32, resolve_device, resolve_precision
from ssvq.settings import Device, Precision

MAP_SIDE = 32  # most cells on a side of a stored score map


@dataclass(frozen=True)
class TileScores:
    """score, score_max, score_worst: float32 (n,), NaN without a valid cell; score_worst is also NaN for a method
    without cells. score_map: float16 (n, side, side) or None.
    """

    score: NDArray[np.float32]
    score_max: NDArray[np.float32]
    score_worst: NDArray[np.float32]
    score_map: NDArray[np.float16] | None

    @classmethod
    def joined(cls, scores: Sequence["TileScores"], order: NDArray[np.int64]) -> "TileScores":
        """Concatenate scores of one model, then order them by the positions int64 (n,)."""

        def column(name: str) -> NDArray[Any] | None:
            columns = [getattr(one, name) for one in scores]
            return None if columns[0] is None else np.concatenate(columns)[order]

        return cls(*map(column, ("score", "score_max", "score_worst", "score_map")))  # type: ignore[arg-type]


class TileScorer:
    """Scores tiles in batches of one fixed shape.

    Kernels choose their order of summation by shape, so a tile's score does not depend on the rest of its batch.
    Several threads may call it at a time.

    `batch_size`: tiles in a batch; None: what suits the device (`ssvq.inference.memory`). On a CPU each core has a
    batch of its own. `compile`: fuse the layers with torch.compile, which takes about a minute at the start and needs a
    C++ compiler; it has no effect on a method with kernels of its own. `jpegs`: decoder of JPEG files on the device, if
    any.
    """

    def __init__(
        self,
        method: Method,
        preprocessing: Preprocessing,
        batch_size: int | None,
        device: torch.device,
        precision: str,
        *,
        compile: bool = False,
        share: float = 1.0,
        jpegs: JpegDecoder | None = None,
    ) -> None:
        self.jpegs = jpegs
        self.method = method.to(device).eval()
        self.preprocessing, self.device, self.precision = preprocessing, device, precision
        self._score: Callable[[Tensor, Tensor | None], Score] = self.method.score
        self._score_pixels = self.method.score_on_gpu(preprocessing, precision)
        backbone = self.method.backbone
        shrinks_by = 1 if backbone is None else backbone.shrinks_by
        batch = batch_for(self._score_batch, preprocessing.tile_size, device, batch_size, share, shrinks_by)
        self.batch_size = batch_size or batch
        if compile and self._score_pixels is None:
            self._compile(batch)
        self._runner = runner_for(device, self._score_batch, batch)

    @classmethod
    def from_bundle(
        cls,
        location: str,
        batch_size: int | None,
        device: Device = "auto",
        precision: Precision = "auto",
        *,
        compile: bool = False,
        share: float = 1.0,
        decode_on_gpu: bool = False,
    ) -> "TileScorer":
        """Load a bundle onto a device. Raises InputError if bundle, device, compiler or decoder are missing."""
        description = bundles.read_description(location)
        method = load_method(location, description).eval()
        if method.backbone is not None:
            method.backbone.fold()
        target = resolve_device(device)
        network = description.backbone
        resolved = resolve_precision(
            precision, target, pretrained=network is not None, bounded=network is not None and is_bounded(network.name)
        )
        jpegs = NvJpeg(target) if decode_on_gpu else None
        return cls(
            method, description.preprocessing, batch_size, target, resolved, compile=compile, share=share, jpegs=jpegs
        )

    def score(self, pixels: Pixels | Tensor, valid_cells: Cells | None = None) -> TileScores:
        """Scores of tiles uint8 (n, t, t, 3), in memory or already on the device. Invalid cells, bool (n, h, w), are
        left out.
        """
        if not len(pixels):
            return TileScores(*(np.empty(0, np.float32),) * 3, None)
        score, largest, worst, cells = self._runner.run(pixels, valid_cells)
        assert score is not None
        return TileScores(
            score,
            score if largest is None else largest,
            np.full(len(score), np.nan, np.float32) if worst is None else worst,
            cells,
        )

    def close(self) -> None:
        """End the threads of the device, and free their memory."""
        self._runner.close()

    @torch.inference_mode()
    def _score_batch(self, pixels: Tensor, valid: Tensor | None) -> Results:
        """Score, largest distance, distance of the worst cells, and map of each tile of a batch, on its device."""
        with autocast(self.precision, self.device), full_fp32(self.device):
            if self._score_pixels is None:
                score, cells = self._score(normalise(pixels, self.preprocessing), valid)
            else:
                score, cells = self._score_pixels(pixels, valid)
        if cells is None:
            return score.float(), None, None, None
        largest, worst = worst_cells(cells.float(), valid)
        return score.float(), largest, worst, pool_cells(cells, valid).half()

    def _compile(self, batch: int) -> None:
        """Compile the method's score by scoring a first batch. Raises InputError if that fails."""
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to load, in every process of a job

        self._score = torch.compile(self.method.score, dynamic=False)
        side = self.preprocessing.tile_size
        try:
            self._score_batch(torch.zeros((batch, side, side, 3), dtype=torch.uint8, device=self.device), None)
        except TorchDynamoException as error:
            raise InputError(
                f"--compile: torch.compile failed ({reason_of(error, first_line=True)}); install a C++ compiler, or "
                "leave --compile out"
            ) from error


def load_model(
    location: str, *, device: Device = "auto", precision: Precision = "auto", batch_size: int | None = None
) -> TileScorer:
    """Load a bundle to score arrays of pixels, without Ray and without files.

        model = ssvq.load_model("bundle")
        side = model.preprocessing.tile_size
        scores = model.score(pixels)  # pixels: uint8 (n, side, side, 3); scores.score: float32 (n,)

    Args:
        location: folder or s3:// prefix that `ssvq train --out` wrote.
        device: auto takes a GPU where there is one.
        precision: arithmetic of the network; auto takes what the device is fast and accurate at.
        batch_size: tiles in a batch; None takes what suits the device.

    Raises:
        InputError: there is no finished bundle, it is damaged, or the device is not there.
    """
    return TileScorer.from_bundle(storage.absolute(location), batch_size, device, precision)


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (n, h, w, 3) to the network's input, float32 (n, 3, h, w) in channels-last order."""
    n, height, width, channels = pixels.shape
    # A row of pixels is one run of numbers, which vectorises; three channels at a time do not.
    mean = torch.tensor(preprocessing.mean, device=pixels.device).mul(255).repeat(width)
    scale = torch.tensor(preprocessing.std, device=pixels.device).mul(255).repeat(width)
    rows = pixels.reshape(n, height, width * channels).float().sub_(mean).div_(scale)
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def worst_cells(cells: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """For cell distances float32 (n, h, w): the largest valid one of each tile, and the root mean square of the
    worst WORST_SHARE, at least one cell. float32 (n,) each, NaN without a valid cell.
    """
    inside = cells.flatten(1) if valid is None else cells.masked_fill(~valid, float("-inf")).flatten(1)
    worst = inside.topk(math.ceil(WORST_SHARE * inside.shape[1])).values
    largest = worst[:, 0].masked_fill(worst[:, 0].isneginf(), float("nan"))
    if valid is None:
        return largest, worst.square().mean(1).sqrt()
    number = (valid.flatten(1).sum(1) * WORST_SHARE).ceil().clamp_min(1)
    counted = torch.arange(worst.shape[1], device=worst.device) < number[:, None]
    square = torch.where(counted, worst, 0).square().sum(1) / number
    return largest, square.sqrt().masked_fill(largest.isnan(), float("nan"))


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
