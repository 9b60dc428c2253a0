from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.passes.precision.affine import Affine, WeightRange, quantize_weight

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(NUMBERS, NUMBERS)
def test_zero_is_represented_exactly_whatever_the_range(a: float, b: float) -> None:
    mapping = Affine.for_range(min(a, b), max(a, b))
    assert 0 <= mapping.zero_point <= 255
    assert mapping.round_trip(np.zeros(1))[0] == 0.0


@given(NUMBERS, NUMBERS)
def test_values_inside_the_range_move_by_half_a_step_at_most(a: float, b: float) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    mapping = Affine.for_range(low, high)
    values = np.linspace(low, high, 97)
    moved = np.abs(mapping.round_trip(values) - values)
    assert moved.max() <= mapping.scale * (1 + 1e-3)  # the ends: zero point and range both round


def test_a_positive_range_starts_at_zero() -> None:
    assert Affine.for_range(2.0, 5.1) == Affine(float(np.float32(5.1 / 255)), 0)


def test_a_range_of_one_point_has_a_scale_of_one() -> None:
    assert Affine.for_range(0.0, 0.0) == Affine(1.0, 0)


def test_each_channel_has_the_scale_of_its_own_largest_weight() -> None:
    weight = np.array([[1.0, -0.5], [-254.0, 127.0], [0.0, 0.0]], np.float32)
    stored, scales = quantize_weight(weight, 0, WeightRange.ABSMAX)
    np.testing.assert_array_equal(scales, np.array([1 / 127, 2.0, 1.0], np.float32))
    np.testing.assert_array_equal(stored, [[127, -64], [-127, 64], [0, 0]])


def test_channels_are_counted_along_the_axis_given() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    by_row, row_scales = quantize_weight(weight, 0, WeightRange.ABSMAX)
    by_column, column_scales = quantize_weight(weight.T, 1, WeightRange.ABSMAX)
    np.testing.assert_array_equal(by_row, by_column.T)
    np.testing.assert_array_equal(row_scales, column_scales)


@pytest.mark.parametrize("seed", range(4))
def test_least_squared_error_is_no_larger_than_with_the_largest_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(3, (5, 200)).astype(np.float32)
    errors = {}
    for method in WeightRange:
        stored, scales = quantize_weight(weight, 0, method)
        errors[method] = ((stored * scales[:, None] - weight) ** 2).sum(axis=1)
    assert (errors[WeightRange.MSE] <= errors[WeightRange.ABSMAX] * (1 + 1e-6)).all()
