"""Decodes JPEG files on the scorer's device: the files are a twentieth of their pixels."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ssvq.errors import InputError
from ssvq.inference.faults import is_lost, why_no_gpu


class JpegDecoder(Protocol):
    """Decodes JPEG files."""

    name: str
    """Its name in the ledger."""

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """Pictures of files, uint8 (h, w, 3) on the device; None for a file that it refuses."""


class NvJpeg:
    """nvJPEG through torchvision, which the extra `ssvq[gpu]` installs. Its pixels differ from libjpeg's by one
    level now and then.
    """

    name = "nvJPEG"

    def __init__(self, device: torch.device) -> None:
        """Raises InputError without a GPU or without torchvision."""
        if device.type != "cuda":
            raise InputError(f"--decode gpu: there is no GPU here ({why_no_gpu()}); use --decode cpu")
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
            raise InputError(
                f"--decode gpu: torchvision cannot be loaded ({error}): pip install 'ssvq[gpu]', or use --decode cpu"
            ) from None
        self._device, self._decode, self._rgb = device, decode_jpeg, ImageReadMode.RGB

    def decode(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """See `JpegDecoder`."""
        try:
            return self._all(files)
        except RuntimeError as error:
            if is_lost(error):
                raise
            return [self._one(file) for file in files]  # it does not say which of them failed

    def _one(self, file: bytes) -> Tensor | None:
        try:
            return self._all([file])[0]
        except RuntimeError as error:
            if is_lost(error):
                raise
            return None

    def _all(self, files: Sequence[bytes]) -> list[Tensor | None]:
        data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        pictures = self._decode(data, mode=self._rgb, device=self._device)
        # Hardware decoders may write to memory that was freed meanwhile, unless we wait for them.
        torch.cuda.synchronize(self._device)
        return [picture.permute(1, 2, 0).contiguous() for picture in pictures]


def cut_on_device(picture: Tensor, ys: Sequence[int], xs: Sequence[int], size: int) -> Tensor:
    """Tiles uint8 (n, size, size, 3) of a picture (h, w, 3) with corners at rows `ys` and columns `xs`, row-major."""
    rows = torch.stack([picture[y : y + size] for y in ys])
    return torch.stack([rows[:, :, x : x + size] for x in xs], dim=1).flatten(0, 1)
