"""Every value has a static shape, inside branches too."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from gcompile import ir
from gcompile.errors import InvalidModelError, UsageError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
BRANCH = """g (bool p, float[1,3,8] x) => (float[?,?,?] y)
    <int64[6] pads = {0, 0, 2, 0, 0, 2}, int64[1] two = {2}, int64[1] last = {2},
     int64[1] end = {-2}> {
        i = If(p) <
            then_branch = a () => (float o) {
                q = Pad(x, pads)
                s = Shape<start = 2>(q)
                h = Div(s, two)
                o = Slice(q, two, h, last)
            },
            else_branch = b () => (float u) { u = OTHER }
        >
        y = Relu(i)
    }"""


def shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {
        str(value.name): ir.static_shape(value)
        for node in ir.all_nodes(model)
        for value in node.outputs
    }


def test_branches_see_the_constants_around_them() -> None:
    model = ir.parse(HEADER + BRANCH.replace("OTHER", "Slice(x, two, end, last)"))
    found = shapes(model)
    assert found["q"] == (1, 3, 12)
    assert found["o"] == found["u"] == found["i"] == found["y"] == (1, 3, 4)


def test_branches_that_disagree_leave_the_shape_open() -> None:
    model = ir.parse(HEADER + BRANCH.replace("OTHER", "Neg(x)"))
    value = model.graph[0].outputs[0]
    with pytest.raises(InvalidModelError, match="shape of value 'i' depends on the data"):
        ir.static_shape(value)


def test_shape_arithmetic_is_followed_without_changing_the_model() -> None:
    model = ir.parse(
        HEADER
        + """g (float[2,3,4] x) => (float[?,?] y) <int64[1] one = {1}, int64[1] rest = {-1}> {
            s = Shape(x)
            n = Gather(s, one)
            t = Concat<axis = 0>(n, rest)
            y = Reshape(x, t)
        }"""
    )
    assert shapes(model)["y"] == (3, 8)
    assert [node.op_type for node in model.graph] == ["Shape", "Gather", "Concat", "Reshape"]


def test_branches_inside_branches() -> None:
    model = ir.parse(
        HEADER
        + """g (bool p, bool q, float[2,3] x) => (float[?,?] y) <int64[2] six = {6, 1}> {
            y = If(p) <
                then_branch = a () => (float o) {
                    o = If(q) <
                        then_branch = c () => (float v) { v = Reshape(x, six) },
                        else_branch = d () => (float w) { w = Reshape(x, six) }
                    >
                },
                else_branch = b () => (float u) { u = Reshape(x, six) }
            >
        }"""
    )
    assert set(shapes(model).values()) == {(6, 1)}


def test_a_large_weight_may_lend_its_shape_to_a_bias() -> None:
    model = ir.parse(
        HEADER
        + """g (float[1,40,4] x, float[160,40,1] w) => (float[?,?,?] y) <float zero = {0}> {
            n = Shape<start = 0, end = 1>(w)
            b = Expand(zero, n)
            y = Conv(x, w, b)
        }"""
    )
    weight = model.graph.inputs.pop()
    array = np.zeros((160, 40, 1), np.float32)
    weight.replace_all_uses_with(ir.add_constant(model.graph, "weight", array))
    ir.infer_shapes(model)
    assert shapes(model)["b"] == (160,)


def test_a_free_dimension_can_be_bound_by_its_name() -> None:
    text = HEADER + "g (float[n,2] x, float[n] z) => (float[n,2] y) { y = Relu(x) }"
    model = ir.parse(text, {"n": (5,)})
    assert [ir.static_shape(value) for value in model.graph.inputs] == [(5, 2), (5,)]


@pytest.mark.parametrize("size", [-1, "?", "-1"])
def test_sizes_that_say_nothing_are_free(size: int | str) -> None:
    raw = onnx_ir.from_onnx_text(HEADER + "g (float[a,b] x) => (float[a,b] y) { y = Relu(x) }")
    raw.graph.inputs[0].shape = onnx_ir.Shape([size, size])
    with pytest.raises(UsageError, match=r"free dimensions: x has x\[1\]"):
        ir.prepare(raw.clone())
    model = ir.prepare(raw, {"x": (2, 3)})
    assert ir.static_shape(model.graph.outputs[0]) == (2, 3)


def test_operators_whose_rule_onnx_forgot_are_inferred_wherever_they_stand() -> None:
    model = ir.parse(
        HEADER
        + """g (float[1,4,6] x) => (float[1,?,?] y) <float[4] s = {1, 1, 1, 1}> {
            a = Relu(x)
            b = GroupNormalization<num_groups = 2>(a, s, s)
            c = Neg(b)
            y = GroupNormalization<num_groups = 2>(c, s, s)
        }"""
    )
    assert set(shapes(model).values()) == {(1, 4, 6)}
