"""What the kernel methods share: a machine of RBF kernels saved as arrays, and the two kinds of features it is put on,
pixels, or the bottleneck of an autoencoder (the hybrid methods of the paper).
"""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from ssvq.methods.autoencoder import Autoencoder
from ssvq.methods.base import Method, Score, mean_over_cells
from ssvq.methods.settings import Kernel
from ssvq.model.settings import Architecture

IMAGES_AT_ONCE = 64  # through the encoder in `fit`
ROWS_AT_ONCE = 1024  # of the matrix of kernels in `score`


class KernelMethod(Method):
    """The score of features x is offset - sum_i weights_i exp(-width |support_i - x|^2).

    `support` float32 (S, d), `weights` float32 (S,), `offset` and `width` float32 (); S = 0 before `fit`.
    """

    sized_by_fit = ("support", "weights")
    support: Tensor
    weights: Tensor
    offset: Tensor
    width: Tensor

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.fits_samples = kernel.samples
        self.register_buffer("support", torch.zeros(0, 0))
        self.register_buffer("weights", torch.zeros(0))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("width", torch.ones(()))

    @abstractmethod
    def features(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """Features float32 (n, d) of images (n, 3, h, w)."""

    @abstractmethod
    def solve(self, gram: np.ndarray, normal: int) -> tuple[np.ndarray, float]:
        """Weights float64 (n,) and offset, from the matrix of kernels float64 (n, n) of the samples; the first
        `normal` of them are normal, the others anomalous.
        """

    def training_features(self, images: Tensor, normal: int) -> Tensor:
        """Features float32 (n, d) of the images of `fit`, the first `normal` of which are normal."""
        return in_batches(self.features, images)

    @property
    def ready(self) -> bool:
        """Not before `fit`."""
        return len(self.weights) > 0

    @torch.no_grad()
    def fit(self, normal: Tensor, anomalous: Tensor, seed: int) -> None:
        """Solve for the machine of at most `fits_samples` images (n, 3, h, w) and (m, 3, h, w), in float64; nothing in
        it is random. A method to which anomalies are unused leaves them out.

        The width is 1 / (d x variance of all features), scikit-learn's "scale".
        """
        images = normal if self.anomalies == "unused" else torch.cat([normal, anomalous])
        features = self.training_features(images, len(normal))
        x = features.cpu().double().numpy()
        width = 1 / (x.shape[1] * (x.var() or 1.0))
        weights, offset = self.solve(rbf_kernel(x, gamma=width), len(normal))
        support = torch.from_numpy(weights != 0).to(features.device)
        self.support = features[support].contiguous()
        self.weights = torch.from_numpy(weights[weights != 0]).to(features)
        self.offset.fill_(offset)
        self.width.fill_(width)

    @torch.no_grad()
    def score(self, tiles: Tensor, valid_cells: Tensor | None = None) -> Score:
        """How far on the anomalous side of the machine, in fp32 also under autocast; a machine has no cells."""
        features = self.features(tiles, valid_cells)
        with torch.autocast(features.device.type, enabled=False):
            return Score(torch.cat([self._beyond(rows) for rows in features.split(ROWS_AT_ONCE)]), None)

    def _beyond(self, rows: Tensor) -> Tensor:
        # By differences: |x|^2 + |y|^2 - 2 x.y would cancel where all tiles look alike.
        distance = torch.cdist(rows, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return self.offset - (-self.width * distance.square()).exp() @ self.weights


class OnPixels(KernelMethod):
    """A kernel method on the pixels of an image shrunk to `kernel.side` a side, so that d = 3 x side^2 for samples
    and tiles of any size. A smaller image has its pixels repeated.

    Pixels that are not valid have the mean colour of the others: they are compared as that, and not left out.
    """

    sections = ("kernel",)
    takes_steps = False

    def features(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """Pixels float32 (n, d)."""
        return F.adaptive_avg_pool2d(images.float(), self.kernel.side).flatten(1)


class OnLatents(KernelMethod):
    """A kernel method on the mean latent of an autoencoder that is trained first, in all the steps; d = D.

    Like that of Deep SVDD, the autoencoder learns from normal samples, and its encoder has no biases. The mean and the
    standard deviation of each dimension, float32 (D,), are measured on the normal samples of `fit`.
    """

    sections = ("architecture", "kernel")
    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.autoencoder = Autoencoder(architecture, bias=False)
        self.register_buffer("mean", torch.zeros(architecture.dimensions))
        self.register_buffer("deviation", torch.ones(architecture.dimensions))

    def start(self, normal: Tensor, seed: int, steps: int) -> None:
        """Measure the colours of the first normal batch."""
        self.autoencoder.encoder.start(normal)

    def loss(self, normal: Tensor, anomalous: Tensor, shares: Tensor | None = None) -> dict[str, Tensor]:
        """The mean squared error of the reconstruction of normal samples."""
        error = self.autoencoder(normal)[1].mean()
        return {"loss": error, "reconstruction": error}

    def latents(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """The mean latent over the valid cells, float32 (n, D); NaN without any."""
        return mean_over_cells(self.autoencoder.encoder(images), valid_cells)

    def features(self, images: Tensor, valid_cells: Tensor | None = None) -> Tensor:
        """The mean latent, standardised: float32 (n, D)."""
        return (self.latents(images, valid_cells) - self.mean) / self.deviation

    def training_features(self, images: Tensor, normal: int) -> Tensor:
        """Measure the mean and the deviation on the way, so that no image is encoded twice."""
        latents = in_batches(self.latents, images)
        deviation, mean = torch.std_mean(latents[:normal], 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1))
        return (latents - self.mean) / self.deviation


def in_batches(features: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`features` (n, d) of many images (n, 3, h, w), a few at once to bound memory."""
    return torch.cat([features(few) for few in images.split(IMAGES_AT_ONCE)])
