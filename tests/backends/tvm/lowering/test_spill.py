"""Packed weights of large models lie in files."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from gcompile.backends.tvm.lowering.spill import Spill


def test_what_goes_beyond_the_limit_is_the_same_in_a_file() -> None:
    spill = Spill(limit_bytes=3 << 20)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((300, 1001)).astype(dtype)
              for dtype in (np.float64, np.float32, ml_dtypes.bfloat16)]  # fmt: skip
    held = [spill.stored(array) for array in arrays]
    assert [one is other for one, other in zip(held, arrays, strict=True)] == [True, False, True]
    again = spill.stored(np.asfortranarray(arrays[1]))
    for _ in range(2):  # What was given back is read again.
        np.testing.assert_array_equal(held[1], arrays[1])
        np.testing.assert_array_equal(again, arrays[1])
        spill.give_back()


def test_small_constants_stay_in_memory() -> None:
    spill, small = Spill(limit_bytes=0), np.zeros(9)
    assert spill.stored(small) is small
