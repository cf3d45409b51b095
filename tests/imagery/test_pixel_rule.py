"""The rule of bands and values: what it allows, and its map from values to 8 bit."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from ssvq.imagery.pixel_rule import AS_STORED, PixelRule
from ssvq.imagery.pixels import CHUNK, to_8_bit

DTYPES = ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bands": ()}, "three bands .* or one"),
        ({"bands": (1, 2)}, "three bands .* or one .*, not 2"),
        ({"bands": (1, 2, 3, 4)}, "not 4"),
        ({"bands": (0,)}, "greater than or equal to 1"),
        ({"value_range": (5, 5)}, "5,5 is empty"),
        ({"value_range": (9, 2)}, "9,2 is empty"),
        ({"value_range": (0, float("nan"))}, "finite"),
        ({"value_range": (0, float("inf"))}, "finite"),
        ({"value_range": (-1.5e308, 1.5e308)}, "is too wide"),
        ({"gamma": 2}, "not permitted"),
    ],
)
def test_what_is_no_rule(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PixelRule.model_validate(values)


@pytest.mark.parametrize(
    "rule", [AS_STORED, PixelRule(bands=(4, 3, 2), value_range=(-0.25, 1e4)), PixelRule(bands=(7,))]
)
def test_a_rule_comes_back_from_json(rule: PixelRule) -> None:
    assert PixelRule.model_validate_json(rule.model_dump_json()) == rule


@st.composite
def values_and_ranges(draw: st.DrawFn) -> tuple[np.ndarray, tuple[float, float]]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = draw(arrays(dtype, (3, 4, 5)))
    if dtype.kind == "f":
        low, high = sorted(draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2, unique=True)))
    else:
        ends = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        low, high = sorted(draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    return values, (float(low), float(high))


@given(values_and_ranges())
def test_a_range_maps_linearly_and_clips(case: tuple[np.ndarray, tuple[float, float]]) -> None:
    values, (low, high) = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, finite = to_8_bit(values, PixelRule(value_range=(low, high)))
    assert (pixels.dtype, pixels.shape) == (np.uint8, values.shape)
    is_finite = np.isfinite(values)
    assert (finite is None) == (values.dtype.kind != "f")
    if finite is not None:
        np.testing.assert_array_equal(finite, is_finite)
    assert not pixels[~is_finite].any()
    exact = np.clip((values[is_finite].astype(np.float64) - low) / (high - low) * 255, 0, 255)
    assert (np.abs(pixels[is_finite] - exact) <= 0.5 + 1e-9).all()
    order = np.argsort(values[is_finite], kind="stable")
    assert (np.diff(pixels[is_finite][order].astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_a_range_are_black_and_white(dtype: str) -> None:
    values = np.array([10, 20, 30, 110, 120], dtype)
    pixels, _ = to_8_bit(values, PixelRule(value_range=(20, 110)))
    assert pixels.tolist() == [0, 0, 28, 255, 255]


@given(arrays(np.uint8, (2, 9)))
def test_8_bit_values_are_as_they_are(values: np.ndarray) -> None:
    np.testing.assert_array_equal(to_8_bit(values, AS_STORED)[0], values)
    np.testing.assert_array_equal(to_8_bit(values, PixelRule(value_range=(0, 255)))[0], values)


def test_large_arrays_are_mapped_in_parts() -> None:
    values = np.random.default_rng(0).normal(0, 100, (3, CHUNK // 2 + 5)).astype(np.float32)
    values[0, 3] = values[2, -1] = np.nan
    rule = PixelRule(value_range=(-100, 100))
    pixels, finite = to_8_bit(values, rule)
    assert finite is not None
    np.testing.assert_array_equal(finite, ~np.isnan(values))
    for row in range(3):  # each smaller than a part
        np.testing.assert_array_equal(pixels[row], to_8_bit(values[row], rule)[0])
