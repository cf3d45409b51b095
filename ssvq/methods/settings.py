"""Settings of the methods: a group for what several share, and one for each that has some of its own."""

from typing import Literal

from pydantic import BaseModel, Field

from ssvq.settings import Location, Section


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


class MethodSettings(BaseModel):
    """The groups above as fields. `ssvq train` has them all, and a method takes those that it names in `sections`."""

    objective: Objective = Objective()
    pretraining: Pretraining = Pretraining()
    hypersphere: Hypersphere = Hypersphere()
    bottleneck: Bottleneck = Bottleneck()
    kernel: Kernel = Kernel()
    memory: Memory = Memory()
    flow: Flow = Flow()
