"""Comparisons, logic, choices and casts between numbers and truth, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gcompile
from tests.backends.tvm.lowering.compiling import check, parse


@pytest.mark.parametrize("operator", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"])
def test_numbers_are_compared(operator: str) -> None:
    text = f"""
        g (float[3,21] x, float[3,21] z) => (bool[3,21] y, bool[3,21] t)
        {{ r = Round(x) s = Round(z) y = {operator}(r, s) t = {operator}(z, x) }}"""
    assert check(text).reasons == []


def test_truth_is_combined_and_chosen_by() -> None:
    text = """
        g (float[4,19] x, float[4,19] z) => (float[4,19] y, bool[4,19] t, float[4,19] u)
        <float half = {0.5}, float low = {-1000.0}> {
            a = Greater(x, half)
            b = Less(z, half)
            c = And(a, b)
            d = Or(a, b)
            e = Xor(a, b)
            n = Not(d)
            y = Where(c, x, low)
            t = Or(n, e)
            v = Cast<to = 1>(a)
            u = Add(v, z)
        }"""
    assert check(text).reasons == []


def test_truth_comes_in_goes_out_and_is_moved() -> None:
    text = """
        g (bool[2,3,5] m, float[2,3,5] x) => (bool[2,5,3] y, bool[2,3,5] t, float[2,3,5] u)
        {
            y = Transpose<perm = [0,2,1]>(m)
            t = Not(m)
            k = Concat<axis = 2>(m, t)
            n = Slice(k, s, e, a)
            u = Where(n, x, x)
        }"""
    text = text.replace("{\n", "<int64[1] s = {2}, int64[1] e = {7}, int64[1] a = {2}> {\n", 1)
    assert check(text).reasons == []


def test_numbers_become_truth_and_whole_numbers() -> None:
    text = """
        g (float[5,7] x, bool[5,7] m) => (bool[5,7] y, int32[5,7] t, int32[5,7] u, float[5,7] v)
        <float ten = {10.0}> {
            r = Round(x)
            y = Cast<to = 9>(r)
            s = Mul(x, ten)
            t = Cast<to = 6>(s)
            u = Cast<to = 6>(m)
            v = Cast<to = 1>(m)
        }"""
    assert check(text).reasons == []


def test_nothing_that_is_no_number_is_equal_or_leaks_from_the_branch_not_taken(
    tmp_path: Path,
) -> None:
    text = """
        g (float[2,20] x, float[2,20] z) => (bool[2,20] y, float[2,20] t, bool[2,20] u)
        <float zero = {0.0}> {
            y = IsNaN(x)
            t = Where(y, zero, x)
            u = LessOrEqual(z, x)
        }"""
    z = np.zeros((2, 20), np.float32)
    built = gcompile.compile(parse(text), output=tmp_path / "out")
    x = np.linspace(-2, 2, 40, dtype=np.float32).reshape(2, 20)
    x[0, 3], x[1, 7], x[1, 8] = np.nan, np.inf, -np.inf
    outputs = built.artifact.run({"x": x, "z": z})
    assert built.report.fallbacks == {}
    np.testing.assert_array_equal(outputs["y"], np.isnan(x))
    np.testing.assert_array_equal(outputs["t"], np.where(np.isnan(x), 0, x))
    np.testing.assert_array_equal(outputs["u"], z <= x)


def test_images_are_masked_where_they_lie() -> None:
    text = """
        g (float[1,3,6,6] x, bool[1,1,6,6] m) => (float[1,5,6,6] y)
        <float[5,3,3,3] w, float[5,5,1,1] v, float zero = {0.0}> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            d = Where(m, c, zero)
            y = Conv(d, v)
        }"""
    assert check(text).reasons == []
