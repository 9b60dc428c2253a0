"""If: each branch becomes a function that is given the values it captures."""

from __future__ import annotations

import onnx
import onnx_ir
import pytest
from onnx import parser

from gcompile import ir, testing
from tests.backends.tvm.lowering.compiling import CHECKED_SEEDS, check, parse


def test_the_inputs_that_are_checked_choose_both_branches() -> None:
    """All models here call their condition `choose` or draw several."""
    model = parse("g (bool choose, float[3] x) => (bool y) { y = Not(choose) }")
    chosen = {bool(testing.example_inputs(model, seed)["choose"]) for seed in CHECKED_SEEDS}
    assert chosen == {True, False}


@pytest.mark.parametrize("precision", [None, "int8", "bf16"])
@pytest.mark.parametrize("condition", ["bool", "bool[1]"])
def test_branches_read_values_and_constants_from_outside(
    condition: str, precision: str | None
) -> None:
    text = f"""
        g ({condition} choose, float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,3,3] w, float number = {{1.5}}> {{
            r = Tanh(x)
            i = If(choose) <
                then_branch = a () => (float[1,4,6,6] o) {{
                    c = Conv<pads = [1,1,1,1]>(r, w)
                    o = Relu(c)
                }},
                else_branch = b () => (float[1,4,6,6] o) {{
                    d = Conv<pads = [1,1,1,1]>(r, w)
                    o = Mul(d, number)
                }}
            >
            y = Neg(i)
        }}"""
    assert check(text, precision).report.fallbacks == {}


def test_a_branch_may_give_a_constant_or_what_it_captured() -> None:
    text = """
        g (bool choose, float[3] x) => (float[3] y, float[2] z)
        <float[3] k = {1.0, 2.0, 3.0}, float[2] l = {4.0, 5.0}> {
            y, z = If(choose) <
                then_branch = a () => (float[3] o, float[2] p) { o = Identity(k) p = Neg(l) },
                else_branch = b () => (float[3] o, float[2] p) { o = Identity(x) p = Identity(l) }
            >
        }"""
    assert check(text).report.status == "ok"


def test_branches_in_branches() -> None:
    text = """
        g (bool first, bool second, float[3] x) => (float[3] y) {
            n = Exp(x)
            y = If(first) <
                then_branch = a () => (float[3] o) {
                    m = Neg(x)
                    o = If(second) <
                        then_branch = c () => (float[3] u) { u = Mul(n, m) },
                        else_branch = d () => (float[3] u) { u = Add(n, x) }
                    >
                },
                else_branch = b () => (float[3] o) { o = Sqrt(n) }
            >
        }"""
    assert check(text).report.fallbacks == {}


def test_an_output_nobody_reads_may_be_left_out() -> None:
    text = """
        g (bool choose, float[3] x) => (float[3] y) {
            y, unread = If(choose) <
                then_branch = a () => (float[3] o, float[3] p) { o = Neg(x) p = Exp(x) },
                else_branch = b () => (float[3] o, float[3] p) { o = Abs(x) p = Tanh(x) }
            >
        }"""
    assert check(text).report.fallbacks == {}


def test_a_condition_may_be_computed_and_an_image_captured() -> None:
    text = """
        g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w, float zero = {0.0}> {
            sum = ReduceSum<keepdims = 0>(x)
            choose = Greater(sum, zero)
            c = Conv(x, w)
            y = If(choose) <
                then_branch = a () => (float[1,2,4,4] o) { o = Neg(c) },
                else_branch = b () => (float[1,2,4,4] o) { o = Abs(c) }
            >
        }"""
    assert check(text).reasons == []


def test_nodes_whose_names_differ_only_in_marks_stay_apart() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (bool choose, float[3] x) => (float[3] y) {
            n = If(choose) <
                then_branch = a () => (float[3] o) { o = Neg(x) },
                else_branch = b () => (float[3] o) { o = Abs(x) }
            >
            y = If(choose) <
                then_branch = a () => (float[3] o) { o = Exp(n) },
                else_branch = b () => (float[3] o) { o = Tanh(n) }
            >
        }"""
    proto: onnx.ModelProto = parser.parse_model(text)
    proto.graph.node[0].name, proto.graph.node[1].name = "a.b", "a_b"
    model = ir.prepare(onnx_ir.from_proto(proto))
    assert check(model).report.fallbacks == {}
