"""An encoder of pretrained features.

It takes maps of a timm network at several levels, brings them to one grid, standardises them on normal samples, and
projects them to latents.
"""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssvq.errors import InputError
from ssvq.model.encoders.base import Encoder
from ssvq.model.encoders.folding import fold_batch_norms
from ssvq.model.encoders.networks import cell_of, feature_network, levels_info, levels_of, scale_of
from ssvq.model.ranks import averaged
from ssvq.model.settings import Architecture

LEAST_DEVIATION = 1e-3  # deviation of a feature: some never change


class BackboneEncoder(Encoder):
    """Sees images at `scale`.

    Each map is averaged over 3x3 positions; coarser maps are interpolated to the finest grid. A decoder's target are
    the standardised features. The network is never in training mode: its batch norms keep their pretrained statistics.
    Its weights are frozen too, unless `tune` is set.
    """

    is_pretrained = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture, *, bias: bool = True) -> None:
        levels = levels_of(architecture)
        network = feature_network(architecture)
        info = levels_info(network)
        channels = sum(info[level]["num_chs"] for level in levels)
        super().__init__(cell=cell_of(architecture), values_in_cell=channels)
        self.shrinks_by = round(1 / scale_of(architecture))
        self.finest = min(range(len(levels)), key=lambda place: info[levels[place]]["reduction"])
        self.tunes, self.tune_rate = architecture.tune, architecture.tune_rate
        self.name = architecture.encoder
        self.network = network
        self.network.requires_grad_(False)
        if self.tunes:
            for weight in _weights_after(network, architecture.tune_after):
                weight.requires_grad_(True)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        hidden = architecture.projection
        self.projection = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias),
            nn.ReLU(inplace=True),
        )
        self.to_latent = nn.Conv2d(hidden, architecture.dimensions, 1, bias=bias)

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Train the projection; the network's batch norms stay in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """Standardised features of images (n, 3, h, w): float32 (n, channels, h / cell, w / cell)."""
        if self.shrinks_by > 1:
            images = F.avg_pool2d(images, self.shrinks_by)
        with torch.set_grad_enabled(self.tunes and torch.is_grad_enabled()):
            maps = [F.avg_pool2d(level.float(), 3, 1, 1, count_include_pad=False) for level in self.network(images)]
        grid = maps[self.finest].shape[2:]
        on_grid = [
            level if level.shape[2:] == grid else F.interpolate(level, grid, mode="bilinear", align_corners=False)
            for level in maps
        ]
        return (torch.cat(on_grid, 1) - self.mean) / self.deviation

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and the standardised features, which pass no gradient."""
        features = self.features(images)
        return self._project(features), features.detach()

    def forward(self, images: Tensor) -> Tensor:
        """Latents. The last layer is in fp32 also under autocast."""
        return self._project(self.features(images))

    def _project(self, features: Tensor) -> Tensor:
        hidden = self.projection(features)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.to_latent(hidden.float())

    def new_decoder(self, architecture: Architecture) -> nn.Module:
        """Two convolutions of 1x1, from latents to features."""
        return nn.Sequential(
            nn.Conv2d(architecture.dimensions, architecture.projection, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(architecture.projection, self.values_in_cell, 1),
        )

    def over_cells(self, values: Tensor) -> Tensor:
        """Sums over channels: a position of the features is a cell."""
        return values.sum(1)

    @torch.no_grad()
    def start(self, normal: Tensor) -> None:
        """Measure mean and deviation of each feature on normal samples of all ranks, which have equally many."""
        self.mean.zero_()
        self.deviation.fill_(1)
        values = self.features(normal).double().movedim(1, 0).flatten(1)
        mean, square = averaged(torch.stack([values.mean(1), values.square().mean(1)]))
        deviation = (square - mean.square()).clamp_min(0).sqrt().clamp_min(LEAST_DEVIATION)
        self.mean.copy_(mean[:, None, None])
        self.deviation.copy_(deviation[:, None, None])

    def tuned_weights(self) -> list[nn.Parameter]:
        """The trainable weights of the network."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]

    def fold(self) -> None:
        """Make the network faster for scoring. Afterwards its weights no longer have timm's names."""
        fold_batch_norms(self.network)

    def load_network(self, weights: dict[str, Tensor]) -> None:
        """Load pretrained weights with timm's names; layers after the last level are left out.

        Raises InputError for the weights of another network.
        """
        expected = self.network.state_dict()
        found = {f"model.{name}": tensor for name, tensor in weights.items() if f"model.{name}" in expected}
        lacking = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
        other = [name for name, tensor in found.items() if tensor.shape != expected[name].shape]
        if lacking or other:
            first = next(chain(lacking, other)).removeprefix("model.")
            what = "is missing" if lacking else "has another shape"
            raise InputError(
                f"--architecture.weights: these are not the weights of {self.name}: {first} {what}, and "
                f"{len(lacking) + len(other) - 1} more; give weights in timm's names of the network"
            )
        self.network.load_state_dict(found, strict=False)


def _weights_after(network: nn.Module, level: int | None) -> list[nn.Parameter]:
    """The weights of the layers after a level, in the order that timm lists them; all without a level."""
    weights = list(network.named_parameters())
    if level is None:
        return [weight for _, weight in weights]
    module = levels_info(network)[level]["module"]
    last = max(place for place, (name, _) in enumerate(weights) if name.startswith(f"model.{module}."))
    return [weight for _, weight in weights[last + 1 :]]
