"""Fold additions of constants into biases."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.fold_add_into_bias import FoldAddIntoBias
from tests.passes.rewriting import check_refusal, check_rewrite


def test_a_convolution_gains_a_bias() -> None:
    check_rewrite(
        FoldAddIntoBias(),
        """g (float[1,2,4,4] x) => (float[1,3,4,4] y)
        <float[3,2,1,1] w = {1, 2, 3, 4, 5, 6}, float[3,1,1] b = {2, 0.5, -1}, float h = {0.5}> {
            c = Conv(x, w)
            a = Add(b, c)
            y = Sub(a, h)
        }""",
        "y = Conv(x, w, Sub_y::bias)",
    )


def test_a_matrix_product_becomes_a_gemm() -> None:
    check_rewrite(
        FoldAddIntoBias(),
        """g (float[3,2] x, float[2,2] w) => (float[3,2] y) <float[1,2] b = {2, 0.5}> {
            m = MatMul(x, w)
            y = Add(m, b)
        }""",
        "y = Gemm(x, w, Add_y::bias)",
    )


def test_the_weight_of_a_gemm_may_be_computed() -> None:
    check_rewrite(
        FoldAddIntoBias(),
        """g (float[3,2] x, float[2,2] w) => (float[3,2] y)
        <float[2] b = {2, 0.5}, float[2] c = {1, 1}> {
            m = Gemm<beta = 2.0>(x, w, c)
            y = Add(m, b)
        }""",
        "y = Gemm(x, w, Add_y::bias)",
    )


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("3,2", "the constant is not one number per channel"),
        ("3,1", "the constant is not one number per channel"),
        ("1,3,2", "the constant is not one number per channel"),
    ],
)
def test_other_constants_stay(shape: str, reason: str) -> None:
    count = 6 if "2" in shape else 3
    numbers = ", ".join(map(str, range(count)))
    rank = "1,3,2" if shape == "1,3,2" else "3,2"
    check_refusal(
        FoldAddIntoBias(),
        f"""g (float[3,2] x, float[2,2] w) => (float[{rank}] y)
        <float[{shape}] b = {{{numbers}}}> {{
            m = MatMul(x, w)
            y = Add(m, b)
        }}""",
        reason,
    )


def test_a_batched_matrix_product_takes_no_bias() -> None:
    check_refusal(
        FoldAddIntoBias(),
        """g (float[2,3,2] x, float[2,2] w) => (float[2,3,2] y) <float[2] b = {2, 0.5}> {
            m = MatMul(x, w)
            y = Add(m, b)
        }""",
        "a MatMul of more than two dimensions takes no bias",
    )


def test_residual_additions_are_not_meant() -> None:
    check_refusal(
        FoldAddIntoBias(),
        """g (float[3,2] x, float[2,2] w) => (float[3,2] y) {
            m = MatMul(x, w)
            y = Add(m, x)
        }""",
    )
