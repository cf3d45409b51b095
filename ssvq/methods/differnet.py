"""DifferNet (Rudolph, Wandt and Rosenhahn, "Same Same But DifferNet: Semi-Supervised Defect Detection with Normalizing
Flows", WACV 2021): the density of image features of normal samples, by a normalising flow.

The features are those of AlexNet, as there, where a file of its weights is given; else those of an autoencoder that is
trained first.
"""

import copy
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from FrEIA.framework import SequenceINN
from FrEIA.modules import GLOWCouplingBlock, InvertibleModule
from torch import Tensor, nn

from ssvq.methods.autoencoder import PretrainedMethod
from ssvq.methods.base import Score
from ssvq.methods.settings import Flow, Pretraining
from ssvq.model.alexnet import CHANNELS, AlexNet, read_alexnet
from ssvq.model.ranks import averaged
from ssvq.model.settings import Architecture

SCALES = (1, 2, 4)  # an image is shrunk by; section 3.1 there
ALEXNET_SIDE = 64  # of the smallest image: one of under 63 has no position left in the last layer
AUTOENCODER_CELLS = 2  # on a side, likewise: a standard deviation over cells wants more than one
ALEXNET_CELL = 4  # sizes of images are multiples of it
LEAST_SPREAD = 0.01  # of a feature, to the mean spread of all: some never change


class DifferNet(PretrainedMethod):
    """`extractor` AlexNet: ready at once, with the means over positions of its last layer, 256 for each scale. Its
    weights are read at the start of a training, and go into the bundle. It was trained on images whose channels have
    mean 0 and variance 1 over ImageNet; it is given what the bundle's preprocessing gives, where they have that over
    the training tiles: what the original does to its images is the same up to a constant of brightness and contrast.

    `extractor` autoencoder: the means and the standard deviations over the cells of the latents, 2 D for each scale,
    of a copy of the encoder that stays as the pre-training left it.

    A tile smaller than the extractor can take at all scales is magnified first, by the factor that the samples of the
    training need. Labelled anomalous samples are not used.
    """

    sections = ("architecture", "pretraining", "flow")
    anomalies = "unused"
    magnification: Tensor
    feature_mean: Tensor
    feature_spread: Tensor

    def __init__(self, architecture: Architecture, pretraining: Pretraining, flow: Flow) -> None:
        super().__init__(architecture, pretraining)
        self.settings = flow
        if flow.alexnet is None:
            self.frozen: nn.Module = frozen(copy.deepcopy(self.autoencoder.encoder))
            width = 2 * architecture.dimensions * len(SCALES)
            self.cell = self.autoencoder.encoder.cell
        else:
            del self.autoencoder
            self.frozen = frozen(AlexNet())
            width = CHANNELS * len(SCALES)
            self.cell = ALEXNET_CELL
        self.flow = build_flow(width, flow)
        self.register_buffer("magnification", torch.ones(()))
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_spread", torch.ones(width))
        self._last_normal: Tensor | None = None

    @property
    def extractor(self) -> str:
        """What the features are of: AlexNet, or autoencoder."""
        return self.settings.extractor

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Begin the pre-training; with AlexNet, read its weights and measure its features.

        Raises InputError when the file of the weights is missing or another.
        """
        side = AUTOENCODER_CELLS * self.cell if self.settings.alexnet is None else ALEXNET_SIDE
        self.magnification.fill_(max(1, SCALES[-1] * side / min(normal.shape[-2:])))
        if self.settings.alexnet is None:
            super().start(normal, seed, steps)
        else:
            self.frozen.load_state_dict(read_alexnet(self.settings.alexnet))
            self.measure(normal)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of the pre-training, and then that of the flow."""
        if not self.ready:
            self._last_normal = normal
        return super().loss(normal, anomalous, shares)

    def begin(self, normal_mean: Tensor) -> None:
        """Copy the encoder, and measure its features on the last batch of the pre-training."""
        assert self._last_normal is not None
        self.frozen.load_state_dict(self.autoencoder.encoder.state_dict())
        self.measure(self._last_normal)
        self._last_normal = None

    @torch.no_grad()
    def measure(self, normal: Tensor) -> None:
        """Fix mean and spread of the features by normal samples of all ranks, which have equally many: couplings
        of unit-sized numbers learn.
        """
        features = self.features(normal).double()
        mean, square = averaged(torch.stack([features.mean(0), features.square().mean(0)]))
        spread = (square - mean.square()).clamp_min(0).sqrt()
        self.feature_mean.copy_(mean)
        self.feature_spread.copy_(spread.clamp_min(LEAST_SPREAD * spread.mean().clamp_min(1e-6)))

    @torch.no_grad()
    def features(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """Features of images (n, 3, h, w), over their valid cells, bool (n, h / 4, w / 4), at all scales: float32
        (n, features), NaN without a valid cell. No gradient reaches the extractor.
        """
        parts: list[Tensor] = []
        for height, width in self.sizes(*images.shape[-2:]):
            latents = self.frozen(resized(images, height, width)).float()
            weights = latents.new_ones(len(images), 1, *latents.shape[-2:])
            if valid_cells is not None:  # at a coarse scale a position may be valid in part
                weights = F.adaptive_avg_pool2d(valid_cells[:, None].float(), weights.shape[-2:])
            weights = weights / weights.sum((2, 3), keepdim=True)
            mean = (weights * latents).sum((2, 3))
            parts.append(mean)
            if self.settings.alexnet is None:
                parts.append((weights * (latents - mean[..., None, None]).square()).sum((2, 3)).sqrt())
        return torch.cat(parts, 1)

    @torch.compiler.disable  # which would warn of a number that is read from a tensor
    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """What an image of a size is brought to at each scale: whole cells."""
        cell = self.cell
        factors = [float(self.magnification) / scale / cell for scale in SCALES]
        return [(cell * round(factor * height), cell * round(factor * width)) for factor in factors]

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the flow maps features to, z (n, features), and log |det dz / dy| of the standardised features y, (n,),
        both float32 also under autocast: it is a sum of many small terms.
        """
        with torch.autocast(features.device.type, enabled=False):
            z, log_determinant = self.flow((features.float() - self.feature_mean) / self.feature_spread)
        return z, log_determinant

    def own_loss(self, normal: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Eq. 5: the mean of |z|^2 / 2 - log |det dz / dy|, by dimension as in the authors' code."""
        z, log_determinant = self.latent(self.features(normal))
        energy, volume = z.square().mean() / 2, log_determinant.mean() / z.shape[1]
        return {"loss": energy - volume, "latent": energy, "log_determinant": volume}

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """Eq. 6: -log p(z), of the standard normal p, as the mean of z^2 over dimensions and over views of a tile. The
        determinant is in the loss alone there, and in the authors' code.
        """
        energies = [
            self.latent(self.features(tile, cells))[0].square().mean(1)
            for tile, cells in self.views(tiles, valid_cells)
        ]
        return Score(torch.stack(energies).mean(0), None)

    def views(self, tiles: Tensor, valid_cells: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Tiles and their valid cells as they are, in 4 turns, or in 4 turns and mirrored in 4."""
        for view in range(self.settings.views):
            change = partial(_seen, turns=view % 4, mirrored=view >= 4)
            yield change(tiles), None if valid_cells is None else change(valid_cells)


def _seen(planes: Tensor, turns: int, mirrored: bool) -> Tensor:
    return torch.rot90(planes.flip(-1) if mirrored else planes, turns, (-2, -1))


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images of another size: areas averaged, or interpolated between pixels where it is larger."""
    if images.shape[-2:] == (height, width):
        return images
    if height > images.shape[-2]:
        return F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
    return F.interpolate(images, (height, width), mode="area")


def frozen(network: nn.Module) -> nn.Module:
    """A network whose weights are buffers: neither an optimiser nor an average over steps changes them, and the
    names in its state stay.
    """
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach())
    return network


class Permutation(InvertibleModule):
    """A fixed random order of features, of a seed of its own: the same on all ranks. FrEIA's seeds NumPy for all."""

    order: Tensor

    def __init__(self, dims_in: list[tuple[int, ...]], seed: int) -> None:
        super().__init__(dims_in)
        order = torch.randperm(dims_in[0][0], generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order)

    def forward(self, x: tuple[Tensor], rev: bool = False, jac: bool = True) -> tuple[tuple[Tensor], float]:
        """Features in the order, or `rev` back from it; the determinant is 1."""
        return (x[0][:, self.order.argsort() if rev else self.order],), 0.0

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those of the input."""
        return input_dims


def build_flow(width: int, settings: Flow) -> nn.Module:
    """The flow of section 3.2: `blocks` of a permutation and a coupling of each half of the features by the other. It
    begins as a permutation alone: the last layer of each network is 0, as in Glow.
    """

    def network(inputs: int, outputs: int) -> nn.Module:
        last = nn.Linear(settings.hidden, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(inputs, settings.hidden), nn.ReLU(), last)

    flow = SequenceINN(width)
    for block in range(settings.blocks):
        flow.append(Permutation, seed=block)
        flow.append(
            GLOWCouplingBlock,
            subnet_constructor=network,
            clamp=settings.clamp,
            clamp_activation=partial(soft_clamp, clamp=settings.clamp),
        )
    return flow


def soft_clamp(log_scale: Tensor, clamp: float) -> Tensor:
    """Eq. 3 over the clamp: 2 / pi arctan(h / clamp), in (-1, 1)."""
    return 2 / torch.pi * torch.atan(log_scale / clamp)
