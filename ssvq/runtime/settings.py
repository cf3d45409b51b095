"""Settings of every job on Ray over many images with a model."""

from typing import Annotated

from ssvq.imagery.settings import ImageReading, ReadLimits
from ssvq.settings import HOW_IT_RUNS, Device, Precision


class ImageJob(ImageReading):
    """A job over many images with a model, on Ray."""

    device: Annotated[Device, HOW_IT_RUNS] = "auto"
    """Device of the model: CUDA where the cluster has GPUs, else CPU."""

    precision: Precision = "auto"
    """Arithmetic of the network: bf16 where the hardware has it, fp16 on older GPUs, else fp32."""

    read: Annotated[ReadLimits, HOW_IT_RUNS] = ReadLimits()

    allow_failed_images: Annotated[bool, HOW_IT_RUNS] = False
    """Exit 0 also when some images failed (else 3); they are reported either way."""
