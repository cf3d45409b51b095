"""Pixel AUROC and AUPRO from counts, against explicit pixels and a slow loop."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from ssvq.evaluation.regions import PixelCounts, count_pixels
from ssvq.scores.heat_map import HeatMap

Image = tuple[HeatMap, NDArray[np.uint8]]


def heat_map(values: NDArray[np.floating], width: int, height: int) -> HeatMap:
    return HeatMap(values.astype(np.float32), width / values.shape[1], height / values.shape[0])


def count(image: Image, band_pixels: int = 1 << 24) -> PixelCounts:
    heat, classes = image
    height, width = classes.shape
    return count_pixels(heat, width, height, lambda x, y, w, h: classes[y : y + h, x : x + w], band_pixels)


def pixels_of(image: Image) -> NDArray[np.float64]:
    """Heat of every pixel as it is stored, NaN where there is none."""
    heat, classes = image
    height, width = classes.shape
    rows = np.minimum((np.arange(height) + 0.5) // heat.pitch_y, heat.values.shape[0] - 1).astype(int)
    cols = np.minimum((np.arange(width) + 0.5) // heat.pitch_x, heat.values.shape[1] - 1).astype(int)
    return heat.values.astype(np.float16).astype(np.float64)[np.ix_(rows, cols)]


def slow_aupro(images: list[Image], limit: float = 0.3) -> float:
    """Mean overlap over regions at every threshold, one by one, and the area by many narrow strips."""
    normal, regions = [], []
    for image in images:
        pixels, anomalous = pixels_of(image), image[1] > 0
        normal.extend(pixels[~anomalous & np.isfinite(pixels)])
        labels, found = label(anomalous, np.ones((3, 3)))
        for number in range(1, found + 1):
            inside = pixels[(labels == number) & np.isfinite(pixels)]
            if len(inside):
                regions.append(inside)
    curve = [(0.0, 0.0)]
    for threshold in sorted({value for part in [normal, *regions] for value in part}, reverse=True):
        rate = np.mean(np.array(normal) >= threshold)
        curve.append((float(rate), float(np.mean([np.mean(region >= threshold) for region in regions]))))
    area = 0.0
    for (rate, overlap), (next_rate, next_overlap) in pairwise(curve):
        if rate >= limit:
            break
        if next_rate > limit:
            next_overlap = overlap + (next_overlap - overlap) * (limit - rate) / (next_rate - rate)
            next_rate = limit
        area += (next_rate - rate) * (overlap + next_overlap) / 2
    return area / limit


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Small images; heat of a few neighbouring half floats, some missing, and cells that are not squares."""
    width, height = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, height)), draw(st.integers(1, width)))
    lowest = draw(st.sampled_from([0, 0x3C00]))  # bits of 0 and of 1
    values = rng.integers(lowest, lowest + 6, shape, np.uint16).view(np.float16).astype(np.float32)
    values[rng.random(shape) < draw(st.sampled_from([0, 0.2]))] = np.nan
    classes = (rng.random((height, width)) < draw(st.sampled_from([0, 0.1, 0.3, 0.6]))) * rng.integers(1, 4)
    return heat_map(values, width, height), classes.astype(np.uint8)


@given(st.lists(images(), min_size=1, max_size=3), st.integers(1, 40))
@settings(max_examples=200)
def test_figures_are_those_of_the_explicit_pixels(found: list[Image], band_pixels: int) -> None:
    counts = PixelCounts()
    for image in found:
        counts.add(count(image, band_pixels))
    scores = np.concatenate([pixels_of(image).ravel() for image in found])
    anomalous = np.concatenate([image[1].ravel() > 0 for image in found])
    known = np.isfinite(scores)
    if len(set(anomalous[known])) < 2:
        assert math.isnan(counts.auroc())
        assert math.isnan(counts.aupro())
        return
    assert counts.auroc() == pytest.approx(roc_auc_score(anomalous[known], scores[known]))
    assert counts.aupro() == pytest.approx(slow_aupro(found))


@given(images(), st.integers(1, 40))
def test_bands_join_the_regions_that_they_cut(image: Image, band_pixels: int) -> None:
    whole, banded = count(image), count(image, band_pixels)
    assert banded.regions == whole.regions
    np.testing.assert_array_equal(banded.normal, whole.normal)
    np.testing.assert_array_equal(banded.anomalous, whole.anomalous)
    np.testing.assert_allclose(banded.overlap, whole.overlap)


def test_a_region_that_two_bands_enter_from_both_sides_is_one() -> None:
    classes = np.zeros((6, 7), np.uint8)
    classes[:5, [1, 5]] = 1  # two legs, joined in the last rows only
    classes[5, 2:5] = 1  # which they meet at corners
    image = (heat_map(np.ones((1, 1)), 7, 6), classes)
    assert count(image, band_pixels=7).regions == 1
    assert count((image[0], classes * (np.arange(6) < 5)[:, None].astype(np.uint8)), band_pixels=7).regions == 2


@given(images())
def test_counts_travel_without_empty_values(image: Image) -> None:
    counts = count(image)
    sparse = counts.sparse()
    assert len(sparse["value"]) <= 6
    again = PixelCounts.from_sparse(sparse)
    for name in ("normal", "anomalous", "overlap", "regions"):
        np.testing.assert_array_equal(getattr(again, name), getattr(counts, name))


def test_small_and_large_regions_count_the_same() -> None:
    """Of two regions the large one is found and the small one is missed; no normal pixel is as hot."""
    classes = np.zeros((10, 10), np.uint8)
    classes[:6, :6], classes[9, 9] = 1, 1
    values = np.where(classes > 0, 2.0, 1.0)
    values[9, 9] = 0.0
    counts = count((heat_map(values, 10, 10), classes))
    assert counts.regions == 2
    assert counts.aupro() == pytest.approx(0.5)
    assert counts.auroc() == pytest.approx(36 / 37)


def test_perfect_heat_gives_1_and_pixels_without_heat_are_left_out() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[2:4, 2:4] = 7
    values = np.where(classes > 0, 3.0, 0.5)
    values[2, 2] = values[0, 0] = np.nan
    counts = count((heat_map(values, 8, 8), classes))
    assert (counts.anomalous.sum(), counts.normal.sum(), counts.regions) == (3, 59, 1)
    assert counts.overlap.sum() == pytest.approx(1)
    assert counts.auroc() == counts.aupro() == 1


def test_negative_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        count((heat_map(np.array([[-1.0]]), 2, 2), np.zeros((2, 2), np.uint8)))
