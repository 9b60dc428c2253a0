"""Fold multiplications by constants into weights."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.fold_scale import FoldScale
from tests.passes.rewriting import check_refusal, check_rewrite

GRAPH = """g (float[1,2,4,4] x) => (float[1,3,4,4] y)
    <float[3,2,1,1] w = {1, 2, 3, 4, 5, 6}, float[3,1,1] s = {2, 0.5, -1}, float h = {0.5},
     float zero = {0}, float[4] wide = {1, 2, 3, 4}, float[2,1,1,1] more = {1, 2}>"""


def test_scales_the_weight_per_channel() -> None:
    check_rewrite(
        FoldScale(),
        f"{GRAPH} {{ c = Conv(x, w) m = Mul(s, c) y = Div(m, h) }}",
        "y = Conv(x, Div_y::weight)",
    )


def test_scales_the_columns_of_a_batched_matrix_product() -> None:
    check_rewrite(
        FoldScale(),
        """g (float[2,3,4] x) => (float[2,3,2] y)
        <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] s = {2, 0.5}> {
            m = MatMul(x, w)
            y = Mul(m, s)
        }""",
        "y = MatMul(x, Mul_y::weight)",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Conv(x, w) y = Mul(c, wide)", "the constant is not one number per channel"),
        ("c = Conv(x, w) y = Div(c, zero)", "the constant divides by zero"),
    ],
)
def test_refuses_with_a_reason(body: str, reason: str) -> None:
    check_refusal(FoldScale(), f"{GRAPH} {{ {body} }}", reason)


def test_a_constant_that_grows_the_result_is_not_folded() -> None:
    check_refusal(
        FoldScale(),
        GRAPH.replace("(float[1,3,4,4] y)", "(float[2,3,4,4] y)")
        + "{ c = Conv(x, w) y = Mul(c, more) }",
        "the constant is not one number per channel",
    )


def test_a_constant_divided_by_a_product_is_not_meant() -> None:
    check_refusal(FoldScale(), f"{GRAPH} {{ c = Conv(x, w) y = Div(h, c) }}")
