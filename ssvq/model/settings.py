"""Settings of the network: the encoder, the codebook after it, and how the codebook learns."""

from pydantic import Field, field_validator

from ssvq.settings import Location, Section


class Architecture(Section):
    """The network: an encoder, and the codebook after it. The widths of the paper's encoder are the paper's."""

    encoder: str = "paper"
    """paper: the paper's own, trained from nothing; or a pretrained network of timm with feature maps, such as
    tf_efficientnet_lite0 or wide_resnet50_2. auto: by method and labels, as docs/explanation/encoders.md says."""

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
