"""Settings of what is learned and how: the network, the objective, the codebook, the optimiser, augmentation."""

from typing import Literal

from pydantic import Field

from ssvq.config.base import Section


class Architecture(Section):
    """Widths of the network; the defaults are the paper's."""

    hidden: int = Field(128, gt=1, multiple_of=2)
    """Feature maps of the hidden layers."""

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


class Objective(Section):
    """The training objective (Eq. 2 to 4)."""

    name: Literal["bounded", "paper"] = "bounded"
    """bounded: a margin on the latent distance of anomalous samples. paper: Eq. 2 to 4 as printed, which diverges."""

    beta: float = Field(1.0, ge=0)
    """Weight of the commitment term."""

    eta: float = Field(0.5, gt=0)
    """Weight of the normal loss; the anomalous loss has 1 - eta."""

    margin: float = Field(1.0, gt=0)
    """bounded: squared latent distance, a mean over channels, that anomalous samples are pushed beyond."""

    margin_on: Literal["sample", "cell"] = "sample"
    """bounded: the margin acts on the mean over a sample's cells, or on every cell."""


class CodebookSettings(Section):
    """How the codebook learns (objective bounded; with paper it learns by gradient alone)."""

    decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the exponential moving averages of the codes, by step."""

    reseed_every: int = Field(50, gt=0)
    """Steps between looks for dead codes, which are set anew to encoder outputs."""

    dead_below: float = Field(0.05, ge=0)
    """A code is dead when its moving usage is under this share of the mean usage."""


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
