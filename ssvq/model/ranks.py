"""Rank and world size of a distributed training."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes; 1 without a distributed training."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Index of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def averaged(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all ranks. All ranks pass the same shape; the tensor is overwritten."""
    if world_size() == 1:
        return tensor
    dist.all_reduce(tensor)
    return tensor / world_size()


def most_over_ranks(number: int, device: torch.device) -> int:
    """The largest of the numbers that the ranks give."""
    if world_size() == 1:
        return number
    most = torch.tensor(number, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)
