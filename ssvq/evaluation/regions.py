"""How well heat locates anomalies: pixel AUROC and AUPRO (Bergmann et al. 2021).

Both are areas under curves over thresholds. Stored distances are half floats, which have few values: counts of pixels
at each value are exact, take the same memory for any number of images, and can be added.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssvq.scores.heat_map import HeatMap

VALUES = 0x7C00 + 1
"""Half floats from 0 to infinity. Their bit patterns are 0 to 0x7C00, in the order of their values."""

FALSE_POSITIVE_LIMIT = 0.3  # AUPRO integrates up to it, and is a share of the largest possible area
BAND_PIXELS = 1 << 24  # pixels of a mask that are read together
EIGHT_NEIGHBOURS = np.ones((3, 3), bool)

ReadClasses = Callable[[int, int, int, int], NDArray[np.uint8]]
"""Class of each pixel of a window x, y, width, height: uint8 (height, width), 0 normal."""


@dataclass
class PixelCounts:
    """Pixels at each value of the heat: `normal` and `anomalous`, int64 (VALUES,).

    `overlap`, float64 (VALUES,): the sum over the anomalous regions of the share of their pixels. `regions`: their
    number.
    """

    normal: NDArray[np.int64] = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    anomalous: NDArray[np.int64] = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(VALUES))
    regions: int = 0

    def add(self, other: "PixelCounts") -> None:
        """Add the pixels of another image."""
        self.normal += other.normal
        self.anomalous += other.anomalous
        self.overlap += other.overlap
        self.regions += other.regions

    def sparse(self) -> dict[str, Any]:
        """The counts without empty values, for transport: one image has few values."""
        value = np.flatnonzero(self.normal + self.anomalous)
        counts = {"normal": self.normal[value], "anomalous": self.anomalous[value], "overlap": self.overlap[value]}
        return {"value": value, **counts, "regions": self.regions}

    @classmethod
    def from_sparse(cls, sparse: dict[str, Any]) -> "PixelCounts":
        """The inverse of `sparse`."""
        counts = cls(regions=sparse["regions"])
        for name in ("normal", "anomalous", "overlap"):
            getattr(counts, name)[sparse["value"]] = sparse[name]
        return counts

    def auroc(self) -> float:
        """Area under the ROC curve of the pixels; NaN unless both classes occur."""
        pairs = float(self.normal.sum()) * float(self.anomalous.sum())
        lower = np.cumsum(self.normal) - self.normal / 2  # a tie counts half
        return float((self.anomalous * lower).sum() / pairs) if pairs else float("nan")

    def aupro(self, limit: float = FALSE_POSITIVE_LIMIT) -> float:
        """Area under the mean overlap of the regions against the false positive rate of the pixels, up to `limit`
        and divided by it; NaN without a region or without a normal pixel.
        """
        if self.regions == 0 or not self.normal.any():
            return float("nan")
        rate, overlap = _at_or_over(self.normal), _at_or_over(self.overlap)
        end = int(np.searchsorted(rate, limit))  # the first that is not below the limit; the curve is cut before it
        at_limit = np.interp(limit, rate[end - 1 : end + 1], overlap[end - 1 : end + 1])
        area = np.trapezoid(np.append(overlap[:end], at_limit), np.append(rate[:end], limit))
        return float(area / limit)


def count_pixels(
    heat: HeatMap, width: int, height: int, classes: ReadClasses, band_pixels: int = BAND_PIXELS
) -> PixelCounts:
    """The counts of an image of this size. Pixels without heat are left out, also from the area of their region.

    A region is an 8-connected part of the anomalous pixels. The mask is read in bands of whole rows, so memory does not
    grow with the image; regions over several bands are joined at the end.

    Raises what `classes` raises, and ValueError for a negative distance.
    """
    if np.nanmin(heat.values, initial=0) < 0:
        raise ValueError("distances to the codebook are not negative")
    known = np.isfinite(heat.values)
    values = np.where(known, heat.values, 0).astype(np.float16).view(np.uint16)
    cols = heat.cols_under(0, width)
    counts = PixelCounts()
    regions = _Regions()
    rows_of_band = max(1, band_pixels // width)
    for y in range(0, height, rows_of_band):
        rows = heat.rows_under(y, min(rows_of_band, height - y))
        anomalous = classes(0, y, width, len(rows)) != 0
        under = np.ix_(rows, cols)
        value, scored = values[under], known[under]
        counts.normal += np.bincount(value[scored & ~anomalous], minlength=VALUES)
        regions.add_band(anomalous, scored, value)
    counts.anomalous, counts.overlap, counts.regions = regions.counts()
    return counts


class _Regions:
    """Regions of a mask that comes band by band. Each band labels its own parts; parts that touch across bands form
    one region.
    """

    def __init__(self) -> None:
        self.parts = 0
        self.touching: list[NDArray[np.int64]] = [np.empty((2, 0), np.int64)]
        self.pixels: list[NDArray[np.int64]] = [np.empty((3, 0), np.int64)]  # part, value, pixels of both
        self.last_row: NDArray[np.int64] | None = None

    def add_band(self, anomalous: NDArray[np.bool_], scored: NDArray[np.bool_], value: NDArray[np.uint16]) -> None:
        """Add the next rows; all arrays are (rows, width)."""
        labels, found = label(anomalous, EIGHT_NEIGHBOURS)
        inside = scored & anomalous
        part_of = labels[inside].astype(np.int64) + self.parts
        keys, pixels = np.unique(part_of * VALUES + value[inside], return_counts=True)
        self.pixels.append(np.stack([*np.divmod(keys, VALUES), pixels]))
        first_row, last_row = (np.where(row > 0, row + self.parts, 0).astype(np.int64) for row in labels[[0, -1]])
        if self.last_row is not None:
            self.touching.append(_touching(self.last_row, first_row))
        self.last_row = last_row
        self.parts += found

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
        """`anomalous`, `overlap` and `regions` of PixelCounts."""
        above, below = np.concatenate(self.touching, axis=1)
        graph = coo_array((np.ones(len(above), bool), (above, below)), shape=(self.parts + 1, self.parts + 1))
        _, region_of = connected_components(graph, directed=False)
        part, value, pixels = np.concatenate(self.pixels, axis=1)
        region = region_of[part]
        area = np.bincount(region, pixels)
        anomalous = np.bincount(value, pixels, minlength=VALUES).astype(np.int64)
        overlap = np.bincount(value, pixels / area[region], minlength=VALUES).astype(np.float64)
        return anomalous, overlap, int(np.count_nonzero(area))


def _touching(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of labels, int64 (2, n), of neighbouring pixels of two rows; label 0 means none."""
    pairs = np.concatenate(
        [np.stack([above, below]), np.stack([above[1:], below[:-1]]), np.stack([above[:-1], below[1:]])], axis=1
    )
    return np.unique(pairs[:, (pairs > 0).all(axis=0)], axis=1)


def _at_or_over(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Share at or over each value, from none (above all values) to all (from the lowest): (VALUES + 1,)."""
    running = np.concatenate([[0.0], np.cumsum(counts[::-1], dtype=np.float64)])
    return running / running[-1]
