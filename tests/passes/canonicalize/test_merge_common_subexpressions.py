"""Merge what is computed twice."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.merge_common_subexpressions import MergeCommonSubexpressions
from tests.passes.rewriting import check_refusal, check_rewrite


def test_merges_constants_then_nodes() -> None:
    record = check_rewrite(
        MergeCommonSubexpressions(),
        """g (float[3] x) => (float[3] y) <float[1] a = {2}, float[1] b = {2}> {
            c = Mul(x, a)
            d = Mul(x, b)
            e = Tanh(c)
            f = Tanh(d)
            y = Add(e, f)
        }""",
        """
        c = Mul(x, a)
        e = Tanh(c)
        y = Add(e, e)
        """,
    )
    assert record.changed == 3


def test_nodes_of_several_outputs_merge() -> None:
    check_rewrite(
        MergeCommonSubexpressions(),
        """g (float[4] x) => (float[2] y) {
            a, b = Split<num_outputs = 2>(x)
            c, d = Split<num_outputs = 2>(x)
            e = Add(a, d)
            y = Mul(e, c)
        }""",
        """
        a, b = Split<num_outputs=2>(x)
        e = Add(a, b)
        y = Mul(e, a)
        """,
    )


def test_the_first_takes_the_name_of_an_output() -> None:
    check_rewrite(
        MergeCommonSubexpressions(),
        "g (float[3] x) => (float[3] y, float[3] z) { a = Relu(x) y = Neg(a) z = Relu(x) }",
        """
        z = Relu(x)
        y = Neg(z)
        """,
    )


@pytest.mark.parametrize(
    "body",
    [
        "a = Relu(x) b = Relu(z) y = Add(a, b)",
        "a = LeakyRelu<alpha = 0.1>(x) b = LeakyRelu<alpha = 0.2>(x) y = Add(a, b)",
        "a = Sub(x, z) b = Sub(z, x) y = Add(a, b)",
    ],
)
def test_different_nodes_stay(body: str) -> None:
    check_refusal(
        MergeCommonSubexpressions(), f"g (float[3] x, float[3] z) => (float[3] y) {{ {body} }}"
    )


def test_two_outputs_stay_two() -> None:
    check_refusal(
        MergeCommonSubexpressions(),
        "g (float[3] x) => (float[3] y, float[3] z) { y = Relu(x) z = Relu(x) }",
        "its input and its output are both graph outputs",
    )


def test_decoders_stay_apart() -> None:
    check_refusal(
        MergeCommonSubexpressions(),
        """g (uint8[3] q) => (float[3] y) <float s = {0.5}> {
            a = DequantizeLinear(q, s)
            b = DequantizeLinear(q, s)
            y = Mul(a, b)
        }""",
    )


def test_large_constants_are_not_compared() -> None:
    check_refusal(
        MergeCommonSubexpressions(size_limit_bytes=8),
        """g (float[3] x) => (float[3] y) <float[3] a = {1, 2, 3}, float[3] b = {1, 2, 3}> {
            c = Mul(x, a)
            y = Mul(c, b)
        }""",
    )
