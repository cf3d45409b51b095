"""What pictures share: pixels as the model sees them, heat over them, and a scale bar."""

import math

import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib_scalebar.scalebar import ScaleBar
from numpy.typing import NDArray

from ssvq.scores.heat_map import HeatMap

COLOURS = "inferno"  # dark to bright, also in grey and for colour-blind readers
FULL_SCALE = 2.0  # brightest colour, as a multiple of the distance at the threshold


def metres_in_pixel(dataset: rasterio.DatasetReader) -> float | None:
    """Side of a pixel in metres; None without a projected coordinate system."""
    crs, transform = dataset.crs, dataset.transform
    if crs is None or not crs.is_projected or transform.is_identity:
        return None
    return float(math.hypot(transform.a, transform.d) * crs.linear_units_factor[1])


def scale_bar(metres: float | None) -> ScaleBar:
    """A bar of a round length, in metres, or in pixels if their size is unknown."""
    size, units, dimension = (1.0, "px", "pixel-length") if metres is None else (metres, "m", "si-length")
    return ScaleBar(size, units, dimension, location="lower left", box_alpha=0.6, frameon=True, border_pad=0.4)


def draw_heat(axes: Axes, heat: HeatMap, threshold: float) -> AxesImage:
    """Draw heat over pixels on the model's scale, so that a clean image looks clean.

    It is transparent below half the threshold's distance, strongest from twice that distance on, and has a contour at
    the threshold.
    """
    draw_contour(axes, heat, threshold)
    return axes.imshow(
        heat.values,
        cmap=COLOURS,
        vmin=0,
        vmax=FULL_SCALE * threshold,
        alpha=opacity(np.nan_to_num(heat.values) / threshold),
        extent=heat.extent,
    )


def opacity(times: NDArray[np.floating]) -> NDArray[np.floating]:
    """Opacity of heat, from its distance divided by the distance at the threshold."""
    return 0.75 * np.clip((times - 0.5) / (FULL_SCALE - 0.5), 0, 1)


def draw_contour(axes: Axes, heat: HeatMap, threshold: float) -> None:
    """Draw the line where the heat passes the threshold's distance, if it does."""
    known = heat.values[np.isfinite(heat.values)]
    if min(heat.values.shape) < 2 or not known.size or not known.min() < threshold < known.max():
        return
    x = (np.arange(heat.values.shape[1]) + 0.5) * heat.pitch_x
    y = (np.arange(heat.values.shape[0]) + 0.5) * heat.pitch_y
    axes.contour(x, y, heat.values, [threshold], colors="white", linewidths=0.6, alpha=0.8)
