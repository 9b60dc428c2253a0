"""Scales move to the smaller operand of a product."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.move_scale import MoveScale
from tests.passes.rewriting import check_refusal, check_rewrite

GRAPH = """g (float[1,2,1,4] q, float[1,2,4,9] k) => (float[1,2,1,9] y)
    <float c = {0.5}, float[9] wide = {1, 2, 3, 4, 5, 6, 7, 8, 9}>"""


@pytest.mark.parametrize("factors", ["k, c", "c, k"])
def test_queries_are_scaled_in_place_of_keys(factors: str) -> None:
    check_rewrite(
        MoveScale(),
        f"{GRAPH} {{ s = Mul({factors}) y = MatMul(q, s) }}",
        """
        MatMul_y::scaled = Mul(q, c)
        y = MatMul(MatMul_y::scaled, k)
        """,
    )


def test_the_right_operand_may_be_the_smaller_one() -> None:
    check_rewrite(
        MoveScale(),
        """g (float[7,4] a, float[4,2] b) => (float[7,2] y) <float c = {0.5}> {
            s = Mul(a, c) y = MatMul(s, b)
        }""",
        """
        MatMul_y::scaled = Mul(b, c)
        y = MatMul(a, MatMul_y::scaled)
        """,
    )


def test_one_factor_of_the_result_takes_the_place_of_both() -> None:
    check_rewrite(
        MoveScale(),
        f"{GRAPH} {{ a = Mul(q, c) b = Mul(c, k) y = MatMul(a, b) }}",
        """
        y::unscaled = MatMul(q, k)
        y = Mul(y::unscaled, MatMul_y::scale)
        """,
    )


def test_keys_that_others_read_stay_scaled() -> None:
    text = GRAPH.replace("float[1,2,1,9] y", "float[1,2,1,9] y, float[1,2,4,9] s")
    check_refusal(
        MoveScale(),
        f"{text} {{ s = Mul(k, c) y = MatMul(q, s) }}",
        "the scaled operand has another reader",
    )


@pytest.mark.parametrize(
    "body",
    [
        "s = Mul(q, c) y = MatMul(s, k)",
        "s = Mul(k, wide) y = MatMul(q, s)",
        "s = Mul(k, k) y = MatMul(q, s)",
    ],
)
def test_other_products_are_left_alone(body: str) -> None:
    check_refusal(MoveScale(), f"{GRAPH} {{ {body} }}")
