"""Chooses the number of tiles in a batch: enough to keep the device busy, within its memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssvq.errors import InputError

PIXELS_OF_A_CORE = 512**2  # pixels whose activations, some 40 MB, about fit a core's share of the cache
TILES_OF_A_CORE = 16
PIXELS_OF_A_GPU = 64 * 512**2  # pixels at the network's input: with more or fewer an H200 scores fewer tiles a second
SHARE_OF_MEMORY = 0.5  # of free memory: the next batch is on the device too, and perhaps other processes


def batch_for(
    work: Callable[[Tensor, Tensor | None], Any],
    tile_size: int,
    device: torch.device,
    wanted: int | None,
    share: float = 1.0,
    shrinks_by: int = 1,
) -> int:
    """Tiles in a batch of `work` on a device of which this scorer has a share.

    `wanted` is used if given, but a CPU core never gets more than `PIXELS_OF_A_CORE`. `shrinks_by`: factor by which the
    network shrinks a tile's side. Raises InputError if a GPU has no memory for one tile.
    """
    pixels = tile_size**2
    if device.type == "cpu":
        return min(wanted or TILES_OF_A_CORE, max(1, PIXELS_OF_A_CORE // pixels))
    free = torch.cuda.mem_get_info(device)[0]
    needed = _bytes_of_tile(work, tile_size, device)
    if wanted is not None:
        return wanted
    return max(1, min(PIXELS_OF_A_GPU * shrinks_by**2 // pixels, int(SHARE_OF_MEMORY * share * free / needed)))


def _bytes_of_tile(work: Callable[[Tensor, Tensor | None], Any], tile_size: int, device: torch.device) -> int:
    """Memory for the work on one tile, measured by doing it."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        work(torch.zeros((1, tile_size, tile_size, 3), dtype=torch.uint8, device=device), None)
    except torch.cuda.OutOfMemoryError:
        raise InputError(
            f"the GPU has no memory for one tile of {tile_size} pixels: end what else uses it, give a scorer more "
            "of it (--gpus-per-scorer), or use --device cpu"
        ) from None
    return max(1, torch.cuda.max_memory_allocated(device) - before)
