from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.passes.precision.formats import NumberFormat

DTYPES = {
    NumberFormat.E4M3: ml_dtypes.float8_e4m3fn,
    NumberFormat.E5M2: ml_dtypes.float8_e5m2,
    NumberFormat.MXFP6: ml_dtypes.float6_e2m3fn,
    NumberFormat.MXFP4: ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("name", DTYPES)
def test_every_number_of_an_element_is_kept_and_what_lies_between_goes_to_the_nearest(
    name: NumberFormat,
) -> None:
    bits = np.arange(256, dtype=np.uint8)
    bits = bits[bits < 1 << {NumberFormat.MXFP6: 6, NumberFormat.MXFP4: 4}.get(name, 8)]
    numbers = bits.view(DTYPES[name]).astype(np.float64)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    element = name.element
    np.testing.assert_array_equal(element.nearest(numbers), numbers)
    assert numbers.max() == element.largest
    rng = np.random.default_rng(0)
    real = np.concatenate(
        [rng.uniform(-1, 1, 4000) * element.largest, rng.normal(size=4000) * 2.0**element.least]
    ).astype(np.float32)
    np.testing.assert_array_equal(
        element.nearest(real.astype(np.float64)), real.astype(DTYPES[name]).astype(np.float64)
    )


def test_what_is_too_large_saturates() -> None:
    got = NumberFormat.E4M3.element.nearest(np.array([1e9, -449.0, np.inf]))
    np.testing.assert_array_equal(got, [448.0, -448.0, 448.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.sampled_from(list(NumberFormat)))
def test_blocks_share_the_scale_of_their_largest_number(
    seed: int, depth: int, name: NumberFormat
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3, depth)) * 10.0 ** rng.uniform(-6, 6, size=(3, 1))
    got, size = name.nearest(rows), name.block or depth
    for start in range(0, depth, size):
        block, rounded = rows[:, start : start + size], got[:, start : start + size]
        for numbers, values in zip(block, rounded, strict=True):
            peak = np.abs(numbers).max()
            scale = peak / name.element.largest
            if name.block is not None:
                scale = 2.0 ** (np.floor(np.log2(peak)) - name.element.greatest_exponent)
            want = name.element.nearest(numbers / scale) * scale
            np.testing.assert_array_equal(values, want)


def test_zeros_stay_zeros() -> None:
    for name in NumberFormat:
        np.testing.assert_array_equal(name.nearest(np.zeros((2, 40))), np.zeros((2, 40)))


def test_a_block_of_microscaling_integers_has_steps_of_a_64th() -> None:
    row = np.array([[1.0, 1.0 / 64, 0.6 / 64, 1.999]])
    np.testing.assert_array_equal(
        NumberFormat.MXINT8.nearest(row), [[1.0, 1.0 / 64, 1.0 / 64, 127.0 / 64]]
    )
