"""Settings of the methods, in groups: some for several methods, some for one."""

from typing import Literal

from pydantic import BaseModel, Field

from ssvq.settings import Location, Section


class Objective(Section):
    """Objective of ss-vq-vae (Eq. 2 to 4) and of the other ss- methods."""

    name: Literal["bounded", "paper"] = "bounded"
    """bounded: push anomalous samples beyond a margin. paper: negate their loss, as printed, which diverges."""

    terms: Literal["all", "no-reconstruction", "no-codebook"] = "all"
    """Ablations of ss-vq-vae: no-reconstruction is A1; no-codebook is A2, scored by the reconstruction error."""

    beta: float = Field(1.0, ge=0)
    """Weight of the commitment term; in ss-vae and ss-gvae, of the divergence from the prior."""

    eta: float = Field(0.5, gt=0)
    """Weight of the normal loss; the anomalous loss has 1 - eta."""

    margin: float = Field(1.0, gt=0)
    """bounded: distance beyond which anomalous samples are pushed, a mean over channels. ss-vq-vae: squared distance of
    the latents; ss-vae, ss-gvae: distance of the latents from the prior; ss-dcae: squared reconstruction error."""

    margin_on: Literal["sample", "cell"] = "sample"
    """bounded: apply the margin to the mean over a sample's cells, or to every cell."""

    labels: Literal["auto", "tile", "cell"] = "auto"
    """ss-vq-vae, bounded: labels act on whole tiles (tile), or on each cell by its share of anomalous pixels if a mask
    is known (cell). auto: cell with a timm network, else tile."""


class Pretraining(Section):
    """Pre-training as an autoencoder, of deep-svdd, deep-sad and differnet."""

    share: float = Field(0.2, gt=0, lt=1)
    """Share of the steps in which the encoder learns to reconstruct."""


class Hypersphere(Section):
    """Deep SVDD and Deep SAD."""

    eta: float = Field(1.0, ge=0)
    """Weight of a labelled anomalous sample in Deep SAD."""

    weight_decay: float = Field(1e-6, ge=0)
    """Weight decay: factor of half the squared norm of the weights."""


class Bottleneck(Section):
    """The autoencoder of ss-dcae."""

    dimensions: int = Field(8, gt=0)
    """Dimensions of a latent cell, fewer than the 48 values it encodes, so that the input cannot be copied."""


class Kernel(Section):
    """Kernel methods: oc-svm, oc-svm-hybrid, ssad and ssad-hybrid. RBF kernel; its width comes from the variance."""

    samples: int = Field(2000, gt=1)
    """Largest number of training tiles to fit to; memory grows with its square, time with up to its cube."""

    side: int = Field(32, gt=0)
    """Side to which tiles are shrunk, for the methods on pixels."""

    nu: float = Field(0.1, gt=0, lt=1)
    """Upper bound of the share of normal training tiles outside."""

    kappa: float = Field(1.0, ge=0)
    """Weight of the margin of the labelled anomalies in ssad."""


class Memory(Section):
    """Normal cells that patch-knn remembers."""

    samples: int = Field(500, gt=0)
    """Largest number of normal training tiles, or crops, to take cells from."""

    candidates: int = Field(50_000, gt=0)
    """Cells drawn from these tiles as candidates."""

    cells: int = Field(5_000, gt=0)
    """Cells to remember; each next one is the candidate farthest from those already chosen."""


class Flow(Section):
    """The normalising flow of differnet."""

    alexnet: Location | None = None
    """AlexNet weights with torchvision's names, .safetensors or .pth (default: train features first)."""

    blocks: int = Field(8, gt=0)
    """Coupling blocks."""

    hidden: int = Field(512, gt=0)
    """Width of the hidden layer of a block's network."""

    clamp: float = Field(3.0, gt=0)
    """Upper bound of the logarithm of a coupling's scale."""

    views: Literal[1, 4, 8] = 4
    """Views of a tile to average likelihoods over: quarter turns (4), or these and their mirror images (8)."""

    @property
    def extractor(self) -> str:
        """Source of the features: AlexNet or autoencoder."""
        return "autoencoder" if self.alexnet is None else "AlexNet"


class MethodSettings(BaseModel):
    """The groups above as fields. `ssvq train` has all of them; a method takes those that its `sections` name."""

    objective: Objective = Objective()
    pretraining: Pretraining = Pretraining()
    hypersphere: Hypersphere = Hypersphere()
    bottleneck: Bottleneck = Bottleneck()
    kernel: Kernel = Kernel()
    memory: Memory = Memory()
    flow: Flow = Flow()
