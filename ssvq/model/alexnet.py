"""The convolutions of AlexNet (Krizhevsky, "One weird trick", 2014) as in torchvision, and a reader of their
weights.
"""

import torch
from torch import Tensor, nn

from ssvq.errors import InputError
from ssvq.model.weight_files import read_weight_file

CHANNELS = 256  # of the last layer
SOURCE = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth (AlexNet_Weights.IMAGENET1K_V1)"


class AlexNet(nn.Module):
    """The convolutions of AlexNet, named as in torchvision: images (n, 3, h, w) to (n, 256, h', w')."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """The last layer."""
        return self.features(images)


def read_alexnet(location: str) -> dict[str, Tensor]:
    """Read the weights of `AlexNet` from a torchvision file, .safetensors or .pth; those of the classifier are left
    out. Nothing in the file is executed.

    Raises InputError if it cannot be read or lacks a weight.
    """
    setting = f"--flow.alexnet {location}"
    advice = f"give the weights of {SOURCE}"
    weights = read_weight_file(location, setting, advice)
    with torch.device("meta"):
        expected = AlexNet().state_dict()
    for name, like in expected.items():
        found = weights.get(name)
        if not isinstance(found, Tensor):
            raise InputError(f"{setting} has no {name}; {advice}")
        if found.shape != like.shape:
            shapes = f"{tuple(found.shape)} and not {tuple(like.shape)}"
            raise InputError(f"{setting} is of another network: the shape of {name} is {shapes}; {advice}")
    return {name: weights[name].float() for name in expected}
