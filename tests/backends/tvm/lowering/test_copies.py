"""Operators that copy parts of tensors run on one kernel of our own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.lowering.boxes import _runs_of
from tests.backends.tvm.lowering.compiling import check, parse

COPIES = [
    "g (float[2,3,4] a, float[2,5,4] b) => (float[2,8,4] y) { y = Concat<axis=1>(a, b) }",
    "g (float[2,3] a, float[2,5] b) => (float[2,8] y) { y = Concat<axis=-1>(a, b) }",
    """g (float[1,3,4,4] a, float[1,5,4,4] b) => (float[1,2,4,4] y) <float[2,8,3,3] w>
    { c = Concat<axis=1>(a, b) y = Conv<pads=[1,1,1,1]>(c, w) }""",
    """g (float[1,3,4,4] a) => (float[1,11,4,4] y) <float[6,3,1,1] v, float[5,3,3,3] w>
    { b = Conv(a, v) c = Conv<pads=[1,1,1,1]>(a, w) y = Concat<axis=1>(b, c) }""",
    """g (float[2,9,5] x) => (float[2,4,5] y) <int64[1] s={7}, int64[1] e={-100},
    int64[1] a={1}, int64[1] t={-2}> { y = Slice(x, s, e, a, t) }""",
    """g (float[1,6,8,8] x) => (float[1,6,4,4] y) <float[6,6,1,1] w, int64[2] s={0,1},
    int64[2] e={8,8}, int64[2] a={2,3}, int64[2] t={2,2}>
    { c = Conv(x, w) y = Slice(c, s, e, a, t) }""",
    """g (float[2,3,4] x) => (float[2,6,5] y) <int64[6] p={0,1,0,0,2,1}, float f={2.5}>
    { y = Pad(x, p, f) }""",
    """g (float[1,3,4,5] x) => (float[1,3,8,8] y) <int64[8] p={0,0,1,2,0,0,3,1}>
    { y = Pad<mode="reflect">(x, p) }""",
    """g (float[1,3,4,5] x) => (float[1,3,8,8] y) <int64[8] p={0,0,1,2,0,0,3,1}>
    { y = Pad<mode="edge">(x, p) }""",
    """g (float[1,6,8,8] x) => (float[1,9,8,8] y) <float[6,6,1,1] w, int64[8] p={0,0,0,0,0,3,0,0}>
    { c = Conv(x, w) y = Pad(c, p) }""",
    "g (float[2,1,4] x) => (float[3,2,5,4] y) <int64[4] s={3,2,5,4}> { y = Expand(x, s) }",
    "g (float[2,3] x) => (float[4,9] y) <int64[2] s={2,3}> { y = Tile(x, s) }",
    "g (float[4,6,3] x) => (float[4,3] y) <int64 i={-1}> { y = Gather<axis=1>(x, i) }",
    """g (float[4,6] x) => (float[4,5] y) <int64[5] i={5,3,1,1,0}>
    { y = Gather<axis=1>(x, i) }""",
    """g (float[4,6] x) => (float[4,2] y, float[4,4] z) <int64[2] s={2,4}>
    { y, z = Split<axis=1>(x, s) }""",
]


@pytest.mark.parametrize("text", COPIES)
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_copies_run_on_a_kernel_of_our_own(text: str, precision: str | None) -> None:
    assert check(text, precision).reasons == []


def test_quantized_images_of_different_scales_are_put_side_by_side() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "v": rng.standard_normal((6, 3, 1, 1)).astype(np.float32),
        "w": 9 * rng.standard_normal((5, 3, 3, 3)).astype(np.float32),
    }
    text = """g (float[1,3,6,6] a) => (float[1,4,6,6] y)
    <float[6,3,1,1] v, float[5,3,3,3] w, float[4,11,1,1] u> {
        b = Conv(a, v) br = Relu(b) c = Conv<pads=[1,1,1,1]>(a, w) cr = Relu(c)
        j = Concat<axis=1>(br, cr) y = Conv(j, u)
    }"""
    assert check(parse(text, constants=constants), "int8").reasons == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12))
def test_runs_name_every_index_in_order(indices: list[int]) -> None:
    found = [run.start + run.step * i for run in _runs_of(indices) for i in range(run.size)]
    assert found == indices


@pytest.mark.parametrize("precision", [None, "int8"])
def test_channels_that_do_not_fill_vectors_are_joined(
    precision: str | None,
) -> None:
    text = """
        g (float[1,3,6,6] x) => (float[1,8,6,6] y)
        <float[6,3,3,3] w, float[7,3,3,3] v, float[8,13,1,1] u> {
            a = Conv<pads = [1,1,1,1]>(x, w)
            b = Conv<pads = [1,1,1,1]>(x, v)
            c = Concat<axis = 1>(a, b)
            y = Conv(c, u)
        }"""
    assert check(text, precision).reasons == []
