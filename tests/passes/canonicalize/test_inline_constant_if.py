"""Inline branches that are always taken."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.inline_constant_if import InlineConstantIf
from tests.passes.rewriting import check_refusal, check_rewrite

BRANCHES = """
    then_branch = a () => (float[3] o) <float[3] c = {1, 2, 3}> { t = Add(r, c) o = Neg(t) },
    else_branch = b () => (float[3] o) { o = Identity(r) }
"""


def test_the_branch_takes_the_place_of_the_node() -> None:
    check_rewrite(
        InlineConstantIf(),
        f"""g (float[3] x) => (float[3] y) <bool yes = {{1}}> {{
            r = Relu(x)
            i = If(yes) <{BRANCHES}>
            y = Tanh(i)
        }}""",
        """
        r = Relu(x)
        If_i::t = Add(r, c)
        If_i::o = Neg(If_i::t)
        y = Tanh(If_i::o)
        """,
    )


@pytest.mark.parametrize(
    ("condition", "lines"),
    [
        (1, "r = Relu(x)\nIf_y::t = Add(r, c)\ny = Neg(If_y::t)"),
        (0, "r = Relu(x)\ny = Identity(r)"),
    ],
)
def test_an_output_keeps_its_name(condition: int, lines: str) -> None:
    check_rewrite(
        InlineConstantIf(),
        f"""g (float[3] x) => (float[3] y) <bool yes = {{{condition}}}> {{
            r = Relu(x)
            y = If(yes) <{BRANCHES}>
        }}""",
        lines,
    )


def test_a_condition_of_the_caller_stays() -> None:
    check_refusal(
        InlineConstantIf(),
        f"""g (bool p, float[3] x) => (float[3] y) {{
            r = Relu(x)
            y = If(p) <{BRANCHES}>
        }}""",
    )
