"""Settings that all Ray jobs share."""

from typing import Annotated

from ssvq.imagery.settings import ImageReading, ReadLimits
from ssvq.settings import HOW_IT_RUNS, Device, Precision


class ImageJob(ImageReading):
    """A job with a model over many images, on Ray."""

    device: Annotated[Device, HOW_IT_RUNS] = "auto"
    """Device of the model. auto: CUDA if the cluster has a GPU when the job starts, else CPU."""

    precision: Precision = "auto"
    """Arithmetic of the network. auto: bf16 where the hardware has it, fp16 on older GPUs, else fp32."""

    read: Annotated[ReadLimits, HOW_IT_RUNS] = ReadLimits()

    allow_failed_images: Annotated[bool, HOW_IT_RUNS] = False
    """Exit with 0 instead of 3 when some images failed; they are reported either way."""
