"""How many tiles a batch has: as many as keep the device busy, and as its memory holds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssvq.errors import InputError

PIXELS_OF_A_CORE = 512**2  # activations of so many, some 40 MB, are about what a core's share of the cache can hold
TILES_OF_A_CORE = 16
PIXELS_OF_A_GPU = 64 * 512**2  # that a network sees: with fewer or more an H200 scores fewer tiles a second
SHARE_OF_MEMORY = 0.5  # of what is free: the next batch is on the device too, and so may be other processes


def batch_for(
    work: Callable[[Tensor, Tensor | None], Any],
    tile_size: int,
    device: torch.device,
    wanted: int | None,
    share: float = 1.0,
    shrinks_by: int = 1,
) -> int:
    """Tiles in a batch of `work` on a device of which a share is this scorer's. What is wanted is taken, but that a
    core of a CPU has no more pixels at a time than `PIXELS_OF_A_CORE`. `shrinks_by`: how many times smaller the
    network sees a tile's side.

    Raises InputError for a GPU without memory for one tile.
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
    """Memory that the work on one tile takes, by doing it."""
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
