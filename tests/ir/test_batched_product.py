"""Where the matrices of a batch of products lie."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir
from gcompile.ir.strided import Strided

_HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def product_of(text: str) -> ir.BatchedProduct | None:
    """The description of the last MatMul or Gemm, whose region is the whole graph."""
    graph = ir.parse(_HEADER + text).graph
    anchor = [node for node in graph if node.op_type in ("MatMul", "Gemm")][-1]
    return ir.batched_product(anchor, list(graph))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_view_reads_what_the_operators_would_give(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    values = np.arange(np.prod(shape)).reshape(shape)
    view = Strided.of(shape)
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(values.ndim)))
            values = values.transpose(order)
            view = Strided(values.shape, tuple(view.strides[axis] for axis in order))
        else:
            factors = [
                f for size in values.shape for f in ((2, size // 2) if size == 4 else (size,))
            ]
            grouped = data.draw(st.sampled_from([tuple(factors), (values.size,), (1, *factors)]))
            values, reshaped = values.reshape(grouped), view.reshaped(grouped)
            if reshaped is None:
                return
            view = reshaped
    line = np.arange(np.prod(shape))
    steps = [step * line.itemsize for step in view.strides]
    np.testing.assert_array_equal(np.lib.stride_tricks.as_strided(line, view.shape, steps), values)


def test_heads_lie_side_by_side_in_the_rows_of_a_projection() -> None:
    product = product_of("""
        g (float[2,9,24] q, float[2,9,24] k) => (float[2,3,9,9] y) <int64[4] s = {2,9,3,8}> {
            q4 = Reshape(q, s)
            qt = Transpose<perm = [0,2,1,3]>(q4)
            k4 = Reshape(k, s)
            kt = Transpose<perm = [0,2,3,1]>(k4)
            y = MatMul(qt, kt)
        }""")
    assert product is not None
    assert (product.batch, product.heads, product.sizes) == (2, 3, (9, 9, 8))
    assert product.left.strides == product.right.strides == (9 * 24, 8, 24)
    assert (product.left.is_transposed, product.right.is_transposed) == (False, True)
    assert product.rights == 6


def test_a_right_operand_that_all_share_is_packed_once() -> None:
    product = product_of(
        "g (float[4,3,5] a, float[5,7] b) => (float[4,3,7] y) { y = MatMul(a, b) }"
    )
    assert product is not None
    assert (product.heads, product.rights) == (4, 1)


def test_a_left_operand_whose_columns_are_apart_is_not_described() -> None:
    text = "g (float[6,3] a, float[6,4] b) => (float[3,4] y) { y = Gemm<transA = 1>(a, b) }"
    assert product_of(text) is None


def test_a_product_with_one_constant_matrix_is_none() -> None:
    text = "g (float[1,2] a) => (float[1,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(a, w) }"
    assert product_of(text) is None
