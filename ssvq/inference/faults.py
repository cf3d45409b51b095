"""What a process does if its GPU is missing or lost."""

import torch

from ssvq.errors import reason_of


def why_no_gpu() -> str:
    """Why torch works without a GPU, in torch's words: for instance a driver that is too old."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return reason_of(error, first_line=True)
    return "torch sees no CUDA device"


def is_lost(error: Exception) -> bool:
    """Whether CUDA is lost for this process after an error: a device fault, or no memory left. Only a new process
    recovers.
    """
    return isinstance(error, torch.AcceleratorError | torch.cuda.OutOfMemoryError)
