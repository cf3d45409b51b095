"""Settings of the network: the encoder, the codebook after it, and how the codebook learns."""

from pydantic import Field, field_validator

from ssvq.settings import Location, Section


class Architecture(Section):
    """The network: an encoder and a codebook. The default widths are those of the paper."""

    encoder: str = "paper"
    """paper: the paper's own, trained from scratch; or a pretrained network of timm with feature maps, such as
    tf_efficientnet_lite0 or wide_resnet50_2. auto: depends on method and labels (docs/explanation/encoders.md)."""

    levels: list[int] | None = None
    """Levels of the timm network that give features, from 0 (default: those with strides of 8 and 16 pixels)."""

    scale: float | None = Field(None, gt=0, le=1)
    """Scale at which the timm network sees images: 1, 0.5 or 0.25 (default: 0.5, a quarter of the work; 1 for whole
    images)."""

    weights: Location | None = None
    """Weights of the timm network with timm's names, .safetensors or .pth (default: from an installed package, or
    timm's hub)."""

    tune: bool = False
    """Train the timm network too; otherwise its weights are frozen."""

    tune_rate: float = Field(1e-4, gt=0)
    """Learning rate of the timm network."""

    tune_after: int | None = Field(None, ge=0)
    """With --architecture.tune: freeze the timm network up to this level (default: train all of it)."""

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
    """Remove the correlation between red, green and blue first; off in the paper."""

    @field_validator("scale")
    @classmethod
    def _is_whole_pixels(cls, scale: float | None) -> float | None:
        if scale is not None and scale not in (1, 0.5, 0.25):
            raise ValueError("must be 1, 0.5 or 0.25")
        return scale


class CodebookSettings(Section):
    """How the codebook learns (objective bounded; with paper it learns by gradient alone)."""

    kmeans: bool = True
    """Initialise the codes by k-means over encoder outputs; off: by small random numbers."""

    moving_averages: bool = True
    """Codes follow moving averages of the latents; off: they follow the gradient of Eq. 2 and are never re-seeded."""

    decay: float = Field(0.99, gt=0, lt=1)
    """Decay of the exponential moving averages of the codes, by step."""

    reseed_every: int | None = Field(50, gt=0)
    """Steps between re-seeding dead codes with encoder outputs; none: never."""

    dead_below: float = Field(0.05, ge=0)
    """A code is dead if its moving usage is below this share of the mean usage."""
