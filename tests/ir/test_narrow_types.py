"""Narrow number formats as bytes: every code, and the roundings of ONNX's Cast."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile.ir import DataType
from gcompile.ir.narrow_types import decoded, restored, rounding_to, stored

EIGHT_BITS = (
    DataType.FLOAT8E4M3FN, DataType.FLOAT8E4M3FNUZ, DataType.FLOAT8E5M2, DataType.FLOAT8E5M2FNUZ,
)  # fmt: skip


def rounded(x: np.ndarray, dtype: DataType, saturate: bool, mode: str = "nearest") -> np.ndarray:
    rule = rounding_to(dtype, saturate, mode)
    index = np.searchsorted(rule.boundaries, np.abs(x), side="right")
    codes = np.where(np.signbit(x), rule.negative[index], rule.positive[index])
    return decoded(dtype)[np.where(np.isnan(x), rule.nan, codes)]


def numbers(dtype: DataType) -> np.ndarray:
    """Every number of the format, the middles between neighbours, and what is just beside."""
    own = np.unique(decoded(dtype)[np.isfinite(decoded(dtype))].astype(np.float64))
    middles = (own[:-1] + own[1:]) / 2
    exact = np.concatenate([own, middles])
    return np.concatenate([exact, np.nextafter(exact, np.inf), np.nextafter(exact, -np.inf)])


@pytest.mark.parametrize("dtype", EIGHT_BITS)
def test_every_rounding_is_that_of_ml_dtypes(dtype: DataType) -> None:
    x = np.append(numbers(dtype).astype(np.float32), [1e6, -1e6, np.nan, np.inf, -0.0])
    x = x.astype(np.float32)
    expected = x.astype(dtype.numpy()).astype(np.float32)
    found = rounded(x.astype(np.float64), dtype, saturate=False)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("dtype", [*EIGHT_BITS, DataType.FLOAT4E2M1])
def test_saturation_ends_at_the_largest_number(dtype: DataType) -> None:
    largest = np.nanmax(np.where(np.isinf(decoded(dtype)), np.nan, decoded(dtype)))
    found = rounded(np.array([1e9, np.inf, -np.inf]), dtype, saturate=True)
    np.testing.assert_array_equal(found, [largest, largest, -largest])


def test_four_bits_round_as_ml_dtypes_does() -> None:
    x = numbers(DataType.FLOAT4E2M1).astype(np.float32)
    expected = x.astype(DataType.FLOAT4E2M1.numpy()).astype(np.float32)
    np.testing.assert_array_equal(
        rounded(x.astype(np.float64), DataType.FLOAT4E2M1, saturate=True), expected
    )


def test_powers_of_two_are_rounded_up_down_and_to_the_nearest() -> None:
    x = np.array([0.0, 1.0, 1.1, 1.5, 1.9, 2.0])
    lowest = decoded(DataType.FLOAT8E8M0)[0]
    for mode, expected in (
        ("up", [lowest, 1, 2, 2, 2, 2]),
        ("down", [lowest, 1, 1, 1, 1, 2]),
        ("nearest", [lowest, 1, 1, 2, 2, 2]),
    ):
        np.testing.assert_array_equal(rounded(x, DataType.FLOAT8E8M0, True, mode), expected)


@pytest.mark.parametrize("dtype", [*EIGHT_BITS, DataType.INT4, DataType.UINT2])
def test_bytes_stand_for_arrays(dtype: DataType) -> None:
    array = np.array([-1.0, 0.0, 1.0]).astype(dtype.numpy())
    np.testing.assert_array_equal(restored(stored(array, dtype), dtype), array)
    assert stored(array, dtype).itemsize == 1
