"""Which of how many processes of a distributed training this one is."""

import torch.distributed as dist


def world_size() -> int:
    """Processes of the training; 1 where it is not distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0
