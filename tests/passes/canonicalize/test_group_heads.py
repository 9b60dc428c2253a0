"""Heads that share a right operand become the rows of one product."""

from __future__ import annotations

import pytest

import gcompile
from gcompile import ir, testing
from gcompile.passes.canonicalize.group_heads import GroupHeads
from gcompile.passes.pipelines import canonicalize_pipeline
from tests.passes.rewriting import check_refusal, check_rewrite, parse

CONSTANTS = """<int64[5] five = {1, 2, 3, 7, 4}, int64[4] four = {1, 6, 7, 4}, int64[1] two = {2},
    int64[3] three = {6, 7, 4}, int64[4] turned = {1, 6, 4, 7}>"""
GRAPH = f"""g (float[1,6,2,7] a, float[1,2,7,4] b) => (float[1,6,2,4] y) {CONSTANTS}"""
APART = "Transpose<perm = [0, 2, 1, 3, 4]>"
ONCE = "u = Unsqueeze(b, two) e = Expand(u, five)"


def test_values_are_multiplied_once_for_all_their_heads() -> None:
    check_rewrite(
        GroupHeads(),
        f"{GRAPH} {{ {ONCE} r = Reshape(e, four) y = MatMul(a, r) }}",
        """
        u = Unsqueeze(b, two)
        e = Expand(u, five)
        r = Reshape(e, four)
        MatMul_y::rows = Reshape(a, MatMul_y::rows::shape)
        MatMul_y::once = Reshape(u, MatMul_y::once::shape)
        MatMul_y::groups = MatMul(MatMul_y::rows, MatMul_y::once)
        y = Reshape(MatMul_y::groups, MatMul_y::heads::shape)
        """,
    )


def keys(body: str) -> str:
    graph = GRAPH.replace("float[1,6,2,7] a", "float[1,6,2,4] a").replace(
        "float[1,6,2,4] y", "float[1,6,2,7] y"
    )
    return f"{graph} {{ {ONCE} {body} }}"


TRANSPOSED = """
    r = Reshape(e, three) t = Transpose<perm = [0, 2, 1]>(r) k = Reshape(t, turned)
    y = MatMul(a, k)"""


def test_keys_are_transposed_once_too() -> None:
    record = check_rewrite(
        GroupHeads(),
        keys(TRANSPOSED),
        """
        u = Unsqueeze(b, two)
        e = Expand(u, five)
        r = Reshape(e, three)
        t = Transpose<perm=[0, 2, 1]>(r)
        k = Reshape(t, turned)
        MatMul_y::rows = Reshape(a, MatMul_y::rows::shape)
        MatMul_y::once = Reshape(u, MatMul_y::once::shape)
        MatMul_y::swapped = Transpose<perm=[0, 2, 1]>(MatMul_y::once)
        MatMul_y::groups = MatMul(MatMul_y::rows, MatMul_y::swapped)
        y = Reshape(MatMul_y::groups, MatMul_y::heads::shape)
        """,
    )
    assert record.changed == 1


def test_nothing_is_repeated_in_the_end() -> None:
    model = parse(keys(TRANSPOSED))
    canonicalize_pipeline().apply(model, testing.example_context())
    assert {node.op_type for node in model.graph} <= {"Reshape", "Transpose", "MatMul"}
    assert gcompile.compile(model).report.fallbacks == {}


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (f"{ONCE} r = Reshape(e, four) y = MatMul(wide, r)", ["its operands are broadcast"]),
        (
            f"{ONCE} t = {APART}(e) r = Reshape(t, four) y = MatMul(a, r)",
            [],
        ),
        ("o = Expand(b, whole) r = Reshape(o, four) y = MatMul(a, r)", []),
    ],
)
def test_other_products_are_left_alone(body: str, reasons: list[str]) -> None:
    graph = GRAPH.replace(") =>", ", float[2,7] wide) =>").replace(
        "int64[1] two", "int64[5] whole = {3, 1, 2, 7, 4}, int64[1] two"
    )
    check_refusal(GroupHeads(), f"{graph} {{ {body} }}", *reasons)


def test_the_result_keeps_its_name_in_a_whole_model() -> None:
    model = parse(keys(TRANSPOSED))
    GroupHeads().apply(model, testing.example_context())
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert ir.static_shape(model.graph.outputs[0]) == (1, 6, 2, 7)
