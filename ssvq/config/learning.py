"""Settings of what is learned and how: the network, the objective, the codebook, the optimiser, augmentation."""

from typing import Literal

from pydantic import Field, field_validator

from ssvq.config.base import Location, Section


class Architecture(Section):
    """The network: an encoder, and the codebook after it. The widths of the paper's encoder are the paper's."""

    encoder: str = "paper"
    """paper: the paper's own, trained from nothing; or a pretrained network of timm with feature maps, such as
    tf_efficientnet_lite0 or wide_resnet50_2. auto: by method and labels, as docs/encoders.md says."""

    levels: list[int] | None = None
    """Levels of the timm network that features are taken of, from 0 (default: those of 8 and 16 pixels)."""

    scale: float | None = Field(None, gt=0, le=1)
    """Size at which the timm network sees images (default: 0.5, which costs a quarter; whole images as they are)."""

    weights: Location | None = None
    """Weights of the timm network, in timm's names: .safetensors or .pth (default: those of an installed package, or
    timm's hub)."""

    tune: bool = False
    """Train the timm network too; otherwise its weights stay as they are."""

    tune_rate: float = Field(1e-4, gt=0)
    """Learning rate of the timm network's weights."""

    tune_after: int | None = Field(None, ge=0)
    """Level of the timm network up to which its weights stay as they are (default: all are trained)."""

    projection: int = Field(128, gt=0)
    """Width of the layers between features of the timm network and latents."""

    hidden: int = Field(128, gt=1, multiple_of=2)
    """Feature maps of the hidden layers of the paper's encoder."""

    residual_hidden: int = Field(32, gt=0)
    """Feature maps inside a residual layer."""

    residual_layers: int = Field(2, ge=0)
    """Residual layers in the encoder and in the decoder."""

    codes: int = Field(512, gt=1)
    """Codes K in the codebook."""

    dimensions: int = Field(64, gt=0)
    """Dimensions D of a code."""

    whiten_colours: bool = True
    """Take the correlation out of red, green and blue first; off is the paper's."""

    @field_validator("scale")
    @classmethod
    def _is_whole_pixels(cls, scale: float | None) -> float | None:
        if scale is not None and scale not in (1, 0.5, 0.25):
            raise ValueError("1, 0.5 or 0.25: a pixel that the network sees is the mean of 1, 4 or 16")
        return scale


class Objective(Section):
    """What the methods of this family minimise (Eq. 2 to 4 for ss-vq-vae; the other ss- methods alike)."""

    name: Literal["bounded", "paper"] = "bounded"
    """bounded: a margin on the distance of anomalous samples. paper: their loss negated, as printed, which diverges."""

    terms: Literal["all", "no-reconstruction", "no-codebook"] = "all"
    """Ablations of ss-vq-vae: no-reconstruction is A1; no-codebook is A2, scored by the reconstruction error."""

    beta: float = Field(1.0, ge=0)
    """Weight of the commitment term, and of the divergence from the prior of ss-vae and ss-gvae."""

    eta: float = Field(0.5, gt=0)
    """Weight of the normal loss; the anomalous loss has 1 - eta."""

    margin: float = Field(1.0, gt=0)
    """bounded: distance that anomalous samples are pushed beyond, a mean over channels: of the latents, squared; of
    the latents from the prior (ss-vae, ss-gvae); of the reconstruction, squared (ss-dcae)."""

    margin_on: Literal["sample", "cell"] = "sample"
    """bounded: the margin acts on the mean over a sample's cells, or on every cell."""

    labels: Literal["auto", "tile", "cell"] = "auto"
    """ss-vq-vae, bounded: labels act on whole tiles; or, where a mask is known, on each cell by its share of anomalous
    pixels. auto: by cell with a timm network, else by tile."""


class CodebookSettings(Section):
    """How the codebook learns (objective bounded; with paper it learns by gradient alone)."""

    kmeans: bool = True
    """Start the codes from k-means over encoder outputs; off: from small random numbers."""

    moving_averages: bool = True
    """Codes follow moving averages of the latents; off: the gradient of the codebook term of Eq. 2, never re-seeded."""

    decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the exponential moving averages of the codes, by step."""

    reseed_every: int | None = Field(50, gt=0)
    """Steps between looks for dead codes, which are set anew to encoder outputs; none: never."""

    dead_below: float = Field(0.05, ge=0)
    """A code is dead when its moving usage is under this share of the mean usage."""


class Pretraining(Section):
    """The autoencoder that deep-svdd, deep-sad and differnet begin with."""

    share: float = Field(0.2, gt=0, lt=1)
    """Share of the steps in which the encoder first learns to reconstruct."""


class Hypersphere(Section):
    """Deep SVDD and Deep SAD."""

    eta: float = Field(1.0, ge=0)
    """Weight of a labelled anomalous sample in Deep SAD."""

    weight_decay: float = Field(1e-6, ge=0)
    """Weight of half the squared norm of the weights."""


class Bottleneck(Section):
    """The autoencoder of ss-dcae."""

    dimensions: int = Field(8, gt=0)
    """Dimensions of a latent cell, which stands for 48 values: with as many, an autoencoder copies its input."""


class Kernel(Section):
    """The kernel methods: oc-svm, oc-svm-hybrid, ssad and ssad-hybrid. RBF, its width from the variance of the data."""

    samples: int = Field(2000, gt=1)
    """Most training tiles that are fitted to: memory grows with the square, time with up to the cube."""

    side: int = Field(32, gt=0)
    """Tiles are shrunk to this side for the methods on pixels."""

    nu: float = Field(0.1, gt=0, lt=1)
    """Bound on the share of normal training tiles outside."""

    kappa: float = Field(1.0, ge=0)
    """Weight of the margin of the labelled anomalies in ssad."""


class Memory(Section):
    """What patch-knn remembers of normal cells."""

    samples: int = Field(500, gt=0)
    """Most normal training tiles, or crops of them, whose cells it sees."""

    candidates: int = Field(50_000, gt=0)
    """Cells, drawn from theirs, among which it chooses."""

    cells: int = Field(5_000, gt=0)
    """Cells that it remembers: always the one that is the least like those chosen before."""


class Flow(Section):
    """The normalising flow of differnet."""

    alexnet: Location | None = None
    """AlexNet weights in torchvision's naming (.safetensors, or .pth); default: features that are trained here."""

    blocks: int = Field(8, gt=0)
    """Coupling blocks."""

    hidden: int = Field(512, gt=0)
    """Width of the hidden layer of a block's network."""

    clamp: float = Field(3.0, gt=0)
    """Bound on the logarithm of a coupling's scale."""

    views: Literal[1, 4, 8] = 4
    """Turns (4), or turns and mirror images (8), of a tile whose likelihoods are averaged."""

    @property
    def extractor(self) -> str:
        """What the features are of: AlexNet, or autoencoder."""
        return "autoencoder" if self.alexnet is None else "AlexNet"


class Optimiser(Section):
    """Adam and its schedule."""

    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Learning rate over the steps: constant (the paper), or down to 0 in a line or along a cosine."""

    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0 first."""

    clip_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""

    weight_average: float | None = Field(None, gt=0, lt=1)
    """Score with the exponential moving average of the weights, of this decay by step (default: with the last)."""


class Augmentation(Section):
    """Random changes of the training samples that leave their label as it is."""

    flips: bool = True
    """Mirror samples left to right."""

    turns: bool = True
    """Turn samples by quarters; off where up and down matter."""

    brightness: float = Field(0.0, ge=0, lt=1)
    """Multiply the pixels of a sample by a factor from 1 - this to 1 + this."""
