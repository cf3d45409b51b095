"""One model on one device: tiles in, scores out. Knows nothing of Ray or files beyond the bundle."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssvq.config import Device, Precision
from ssvq.methods import build_method
from ssvq.methods.base import Method
from ssvq.model import bundle as bundles
from ssvq.model.bundle import Preprocessing
from ssvq.model.precision import autocast, resolve_device, resolve_precision

MAP_SIDE = 32  # most cells on a side of a stored score map


@dataclass(frozen=True)
class TileScores:
    """score, score_max: float32 (n,), NaN without a valid cell. score_map: float16 (n, side, side) or None."""

    score: NDArray[np.float32]
    score_max: NDArray[np.float32]
    score_map: NDArray[np.float16] | None


class TileScorer:
    """Scores tiles in batches of one fixed shape: kernels choose their order of summation by shape, so a tile
    has the same score whatever else is in its batch.
    """

    def __init__(
        self,
        method: Method,
        preprocessing: Preprocessing,
        batch_size: int,
        device: torch.device,
        precision: str,
    ) -> None:
        self.method = method.to(device).eval()
        self.preprocessing, self.batch_size = preprocessing, batch_size
        self.device, self.precision = device, precision

    @classmethod
    def from_bundle(
        cls, location: str, batch_size: int, device: Device = "auto", precision: Precision = "auto"
    ) -> "TileScorer":
        """Load a bundle onto a device. Raises InputError for a bundle or device that is not there."""
        description = bundles.read_description(location)
        method = build_method(description.method, description.settings)
        method.load_state_dict(bundles.read_weights(location, description))
        target = resolve_device(device)
        return cls(method, description.preprocessing, batch_size, target, resolve_precision(precision, target))

    @torch.inference_mode()
    def score(self, pixels: NDArray[np.uint8], valid_cells: NDArray[np.bool_] | None = None) -> TileScores:
        """Scores of tiles uint8 (n, t, t, 3); cells that are not valid, bool (n, h, w), are left out."""
        scores, maxima, maps = [], [], []
        for start in range(0, len(pixels), self.batch_size):
            stop = min(start + self.batch_size, len(pixels))
            images = normalise(self._batch(pixels[start:stop]), self.preprocessing)
            valid = None if valid_cells is None else self._batch(valid_cells[start:stop])
            with autocast(self.precision, self.device):
                score, cells = self.method.score(images, valid)
            scores.append(score[: stop - start].cpu())
            if cells is not None:
                inside = cells if valid is None else cells.masked_fill(~valid, float("-inf"))
                largest = inside[: stop - start].amax((1, 2)).cpu()
                maxima.append(largest.masked_fill(largest.isneginf(), float("nan")))
                maps.append(pool_cells(cells, valid)[: stop - start].cpu())
        score_array = torch.cat(scores).float().numpy() if scores else np.empty(0, np.float32)
        return TileScores(
            score=score_array,
            score_max=torch.cat(maxima).float().numpy() if maxima else score_array,
            score_map=torch.cat(maps).half().numpy() if maps else None,
        )

    def _batch(self, array: NDArray[np.generic]) -> Tensor:
        """A batch on the device, filled up to the fixed shape by repeating its last entry."""
        missing = self.batch_size - len(array)
        if missing:
            array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        tensor = torch.from_numpy(np.require(array, requirements="W"))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (n, h, w, 3) to the network's input, float32 (n, 3, h, w) in channels-last order."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device) * 255
    scale = torch.tensor(preprocessing.std, device=pixels.device) * 255
    return ((pixels.float() - mean) / scale).permute(0, 3, 1, 2)


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
