"""The rule that turns stored bands and values into a model's input. It is part of the model, set at training."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Band = Annotated[int, Field(ge=1)]


class PixelRule(BaseModel):
    """The bands of a raster that are red, green and blue, and the values that become 0 and 255.

    It is written in the bundle and used wherever tiles are cut: in training, scoring and evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: tuple[Band, ...] | None = None
    """Three band numbers, from 1, for red, green and blue, or one for grey; None: by the raster's colours."""

    value_range: tuple[FiniteFloat, FiniteFloat] | None = None
    """Values low, high that map linearly to 0, 255, clipped; None: 8-bit values are used unchanged."""

    @model_validator(mode="after")
    def _usable(self) -> "PixelRule":
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise ValueError(f"give three bands (red,green,blue) or one (grey), not {len(self.bands)}")
        if self.value_range is None:
            return self
        low, high = self.value_range
        if low >= high:
            raise ValueError(f"the value range {low:g},{high:g} is empty: give LOW,HIGH with LOW under HIGH")
        if math.isinf(high - low):
            raise ValueError(f"the value range {low:g},{high:g} is too wide")
        return self


AS_STORED = PixelRule()
"""8-bit pictures as they are."""
