"""Softmax, normalizations and reductions run on kernels of our own."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.lowering.reductions import collapse
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from tests.backends.tvm.lowering.compiling import check

ROWS = [
    "g (float[2,3,37] x) => (float[2,3,37] y) { y = Softmax<axis=-1>(x) }",
    "g (float[2,8,5,7] x) => (float[2,8,5,7] y) { y = Softmax<axis=1>(x) }",
    "g (float[6,7] x) => (float[6,7] y) { l = LogSoftmax<axis=1>(x) y = Neg(l) }",
    """g (float[2,5,64] x) => (float[2,5,64] y) <float[64] s, float[64] b>
    { y = LayerNormalization(x, s, b) }""",
    """g (float[2,6,5,7] x) => (float[2,6,5,7] y) <float[6] s, float[6] b>
    { y = InstanceNormalization(x, s, b) }""",
]
FUSED = [
    """g (float[2,4,6,10] x, float[1,1,1,10] m) => (float[2,4,6,10] y) <float[1] c>
    { a = Mul(x, c) b = Add(a, m) y = Softmax(b) }""",
    """g (float[2,5,64] x, float[2,5,64] r) => (float[2,5,64] y) <float[64] s, float[64] b>
    { a = Add(x, r) n = LayerNormalization(a, s, b) y = Gelu(n) }""",
    """g (float[3,10] x) => (float[3,10] y) { a = Neg(x) b = Softmax(a) y = Mul(b, x) }""",
]
REDUCTIONS = [
    "g (float[2,8,5,7] x) => (float[2,8] y) <int64[2] a={2,3}> { y = ReduceMax<keepdims=0>(x,a) }",
    "g (float[2,8,5,7] x) => (float[2,1,5,1] y) <int64[2] a={1,3}> { y = ReduceL2(x, a) }",
    "g (float[2,7,5] x) => (float[2,5] y) <int64[1] a={1}> { y = ReduceMean<keepdims=0>(x, a) }",
    "g (float[2,7,5] x) => (float[1,1,1] y) { y = ReduceSum(x) }",
    "g (float[2,3] x) => (float[2,1] y) <int64[1] a={-1}> { y = ReduceProd(x, a) }",
    "g (float[2,9] x) => (float[2] y) <int64[1] a={1}> { y = ReduceL1<keepdims=0>(x, a) }",
    "g (float[2,9] x) => (float[2] y) <int64[1] a={1}> { y = ReduceSumSquare<keepdims=0>(x, a) }",
    "g (float[4,9] x) => (float[9] y) <int64[1] a={0}> { y = ReduceMin<keepdims=0>(x, a) }",
]


@pytest.mark.parametrize("text", ROWS)
@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_rows_run_on_kernels_of_our_own(text: str, precision: str | None) -> None:
    assert check(text, precision).reasons == []


@pytest.mark.parametrize("text", FUSED)
@pytest.mark.parametrize("precision", [None, "bf16", "fp16", "int8"])
def test_what_surrounds_a_row_is_part_of_its_kernel(text: str, precision: str | None) -> None:
    built = check(text, precision)
    assert built.reasons == []
    assert len(built.report.layers) == 1


@pytest.mark.parametrize("text", REDUCTIONS)
def test_reductions_run_on_kernels_of_our_own(text: str) -> None:
    assert check(text).reasons == []


def test_a_sum_that_others_read_too_is_not_computed_twice() -> None:
    built = check(
        """g (float[2,5,64] x, float[2,5,64] r) => (float[2,5,64] y, float[2,5,64] a)
        <float[64] s, float[64] b> { a = Add(x, r) y = LayerNormalization(a, s, b) }"""
    )
    assert built.reasons == []
    assert len(built.report.layers) == 2


def test_a_softmax_along_an_axis_in_between_says_why_it_has_no_kernel() -> None:
    built = check("g (float[2,3,4,5] x) => (float[2,3,4,5] y) { y = Softmax<axis=2>(x) }")
    assert built.reasons == ["Softmax runs along axis 2 of 4"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=6))
def test_joined_axes_hold_as_many_numbers(axes: list[tuple[int, bool]]) -> None:
    shape = tuple(size for size, _ in axes)
    reduced = {i for i, (_, is_reduced) in enumerate(axes) if is_reduced}
    changes = sum(a[1] != b[1] for a, b in itertools.pairwise(axes))
    if changes > 3:
        with pytest.raises(CannotEmitError, match="alternate"):
            collapse(shape, reduced)
        return
    extents, kept = collapse(shape, reduced)
    product = 1
    for size in shape:
        product *= size
    assert extents[0] * extents[1] * extents[2] * extents[3] == product
    for size, is_reduced in axes:
        product //= size if is_reduced else 1
    assert kept[0] * kept[1] * kept[2] * kept[3] == product
