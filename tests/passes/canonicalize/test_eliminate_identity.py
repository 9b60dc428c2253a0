"""Eliminate nodes that return their input."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.eliminate_identity import EliminateIdentity
from tests.passes.rewriting import check_refusal, check_rewrite


@pytest.mark.parametrize(
    "node",
    [
        "Identity(a)",
        "Dropout(a)",
        "Mul(a, one)",
        "Mul(ones, a)",
        "Div(a, one)",
        "Pow(a, one)",
        "Sub(a, zero)",
        "Add(minus_zero, a)",
        "Concat<axis = 0>(a)",
        "Sum(a)",
        "Max(a)",
        "Expand(a, shape)",
        "Tile(a, once)",
        "Slice(a, from, to)",
        "Pad(a, none)",
    ],
)
def test_eliminates(node: str) -> None:
    check_rewrite(
        EliminateIdentity(),
        f"""g (float[2,3] x) => (float[2,3] y)
        <float one = {{1}}, float[3] ones = {{1, 1, 1}}, float zero = {{0}},
         float minus_zero = {{-0.0}}, int64[2] shape = {{2, 3}}, int64[2] once = {{1, 1}},
         int64[1] from = {{0}}, int64[1] to = {{99}}, int64[4] none = {{0, 0, 0, 0}}> {{
            a = Relu(x)
            b = {node}
            y = Tanh(b)
        }}""",
        """
        a = Relu(x)
        y = Tanh(a)
        """,
    )


@pytest.mark.parametrize(
    "node",
    [
        "Add(a, zero)",
        "Mul(a, two)",
        "Mul(a, larger)",
        "Div(one, a)",
        "Pow(one, a)",
        "Sub(zero, a)",
        "Slice(a, from, to, axes, back)",
        "Neg(a)",
    ],
)
def test_leaves_alone(node: str) -> None:
    shape = "2,2,3" if "larger" in node else "2,3"
    check_refusal(
        EliminateIdentity(),
        f"""g (float[2,3] x) => (float[{shape}] y)
        <float one = {{1}}, float two = {{2}}, float zero = {{0}}, int64[1] from = {{-1}},
         int64[1] to = {{-99}}, int64[1] axes = {{0}}, int64[1] back = {{-1}},
         float[2,1,1] larger = {{1, 1}}> {{
            a = Relu(x)
            b = {node}
            y = Tanh(b)
        }}""",
    )


def test_zero_may_be_added_to_integers() -> None:
    check_rewrite(
        EliminateIdentity(),
        "g (int64[3] x) => (int64[3] y) <int64 zero = {0}> { a = Add(x, zero) y = Abs(a) }",
        "y = Abs(x)",
    )


def test_two_negations_cancel() -> None:
    check_rewrite(
        EliminateIdentity(),
        "g (float[3] x) => (float[3] y) { a = Neg(x) b = Neg(a) y = Relu(b) }",
        """
        a = Neg(x)
        y = Relu(x)
        """,
    )


def test_an_output_keeps_its_name() -> None:
    check_rewrite(
        EliminateIdentity(),
        "g (float[3] x) => (float[3] y) { a = Relu(x) b = Neg(a) y = Identity(b) }",
        """
        a = Relu(x)
        y = Neg(a)
        """,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[3] x) => (float[3] y) { y = Identity(x) }",
         "its output is a graph output and its input is not computed here"),
        ("g (float[3] x) => (float[3] y, float[3] z) { z = Relu(x) y = Identity(z) }",
         "its input and its output are both graph outputs"),
        ("g (float[3] x) => (float[3] y) <float[3] c = {1, 2, 3}> { y = Identity(c) }",
         "its output is a graph output and its input is not computed here"),
        ("g (float[2000000] x) => (bool[2000000] m) { y, m = Dropout(x) }",
         "its other outputs are read"),
    ],
)  # fmt: skip
def test_the_interface_of_the_model_is_kept(text: str, reason: str) -> None:
    check_refusal(EliminateIdentity(), text, reason)


def test_a_branch_returns_only_what_it_computes() -> None:
    check_refusal(
        EliminateIdentity(),
        """g (bool p, float[3] x) => (float[3] y) {
            r = Relu(x)
            y = If(p) <
                then_branch = a () => (float[3] o) { o = Identity(r) },
                else_branch = b () => (float[3] o) { o = Neg(r) }
            >
        }""",
        "its output is a graph output and its input is not computed here",
    )
