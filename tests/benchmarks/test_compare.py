"""When a result of a device counts as wrong."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from benchmarks.gpu.bare.case import WrongError
from benchmarks.gpu.bare.compare import compare_kernel, compare_model

_WANT = np.linspace(-1, 1, 5000, dtype=np.float32)


def test_another_order_of_additions_is_no_error() -> None:
    found = compare_kernel(_WANT * np.float32(1 + 1e-6), _WANT, "float32")
    assert 0 < found["largest_error"] < 1e-5
    with pytest.raises(WrongError, match="of the largest result"):
        compare_kernel(_WANT + np.float32(1e-3), _WANT, "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_results_may_differ_in_the_last_places(dtype: str) -> None:
    narrow = np.dtype(getattr(ml_dtypes, dtype, dtype))
    want = _WANT.astype(narrow)
    bits = want.view(np.uint16)
    plain = bits if dtype == "bfloat16" else want
    assert compare_kernel(plain, plain, dtype)["largest_error"] == 0
    with pytest.raises(WrongError):
        compare_kernel(plain[::-1], plain, dtype)


def test_integers_are_exact_but_for_rare_steps_of_8_bits() -> None:
    want = np.arange(5000) % 100
    off = want.copy()
    off[0] += 1
    assert compare_kernel(off.astype(np.int8), want.astype(np.int8), "int8")["different"] == 1
    with pytest.raises(WrongError, match="1 of 5000 integers differ"):
        compare_kernel(off.astype(np.int32), want.astype(np.int32), "int32")
    off[0] += 1
    with pytest.raises(WrongError):
        compare_kernel(off.astype(np.int8), want.astype(np.int8), "int8")
    off = want.copy()
    off[:10] += 1
    with pytest.raises(WrongError, match="10 of 5000"):
        compare_kernel(off.astype(np.int8), want.astype(np.int8), "int8")


def test_numbers_that_are_none_are_wrong_on_one_side_only() -> None:
    bad = _WANT.copy()
    bad[3] = np.nan
    compare_kernel(bad, bad, "float32")
    for got, want in ((bad, _WANT), (_WANT, bad)):
        with pytest.raises(WrongError, match="one side only"):
            compare_kernel(got, want, "float32")
        with pytest.raises(WrongError, match="one side only"):
            compare_model(got, want, 0.1)


def test_a_model_is_judged_by_its_whole_output() -> None:
    assert compare_model(_WANT * 1.01, _WANT, 0.02)["relative_error"] == pytest.approx(0.01)
    with pytest.raises(WrongError, match="of the norm"):
        compare_model(_WANT * 1.1, _WANT, 0.02)
