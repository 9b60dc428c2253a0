"""Gather with numbers that are computed, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from tests.backends.tvm.lowering.compiling import check, parse


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, "2,3,7,9"), (1, "5,2,3,9"), (2, "5,7,2,3"), (-1, "5,7,2,3")]
)
def test_any_axis_is_picked_from(axis: int, shape: str) -> None:
    text = f"""
        g (int64[2,3] i, float[5,7,9] x) => (float[{shape}] y) {{
            y = Gather<axis = {axis}>(x, i)
        }}"""
    built = gcompile.compile(parse(text))
    assert built.report.fallbacks == {}
    assert built.report.verify.cosine is not None
    assert built.report.verify.cosine > 0.9999999


def test_words_find_their_vectors_and_go_on() -> None:
    text = """
        g (int64[1,6] i) => (float[1,6,8] y) <float[50,24] table, float[24,8] w> {
            e = Gather(table, i)
            y = MatMul(e, w)
        }"""
    assert check(text).reasons == []


def test_a_constant_order_without_regularity_is_gathered_too() -> None:
    order = np.random.default_rng(0).permutation(200)
    text = """
        g (float[3,200] x) => (float[3,200] y) <int64[200] i> { y = Gather<axis = 1>(x, i) }"""
    assert check(parse(text, constants={"i": order})).reasons == []


def test_wide_integers_are_not_gathered_by_kernels_that_would_round_them() -> None:
    text = "g (int64[3] i, int64[5,2] x) => (int64[3,2] y) { y = Gather(x, i) }"
    report = gcompile.compile(parse(text)).report
    assert list(report.fallbacks.values()) == ["a table has type INT64"]
