"""What a process does about a GPU that is not there, or not any more."""

import torch

from ssvq.errors import reason_of


def why_no_gpu() -> str:
    """Why torch works without a GPU, in its own words: such as a driver that is too old for it."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return reason_of(error, first_line=True)
    return "torch sees no CUDA device"


def is_lost(error: Exception) -> bool:
    """Whether CUDA works no more in this process after an error: a fault of the device, or no memory left, which only
    a new process can get back.
    """
    return isinstance(error, torch.AcceleratorError | torch.cuda.OutOfMemoryError)
