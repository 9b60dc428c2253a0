"""What cannot be compiled is listed whole, before any work starts."""

from __future__ import annotations

import pytest

import gcompile
from gcompile import ir
from gcompile.backends.tvm.operators import refuse_early, refuse_unsupported
from gcompile.errors import CompileError, UnsupportedOperatorsError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def nodes_refused(text: str) -> dict[str, list[str]]:
    with pytest.raises(UnsupportedOperatorsError) as caught:
        refuse_unsupported(ir.parse(HEADER + text))
    return caught.value.nodes_by_operator


def test_every_node_of_every_operator_is_named() -> None:
    found = nodes_refused("""
        g (float[1,3,4,4] x) => (float[1,3,4,4] y) {
            a = Bernoulli(x)
            b = Relu(a)
            c = Bernoulli(b)
            y = RandomNormalLike(c)
        }""")
    assert found == {
        "Bernoulli": ["Bernoulli_a", "Bernoulli_c"],
        "RandomNormalLike": ["RandomNormalLike_y"],
    }


def test_branches_are_looked_into() -> None:
    found = nodes_refused("""
        g (bool q, float[4] x) => (float[4] y) {
            y = If(q) <
                then_branch = a () => (float[4] o) { o = Bernoulli(x) },
                else_branch = b () => (float[4] o) { o = Relu(x) }
            >
        }""")
    assert found == {"Bernoulli": ["Bernoulli_o"]}


def test_what_is_lowered_here_needs_no_importer() -> None:
    text = """
        g (bool q, float[4] x) => (float[4] y) <float s = {0.1}, uint8 z = {3}> {
            m = Mish(x)
            e = QuantizeLinear(m, s, z)
            d = DequantizeLinear(e, s, z)
            y = If(q) <
                then_branch = a () => (float[4] o) { o = Neg(d) },
                else_branch = b () => (float[4] o) { o = Relu(d) }
            >
        }"""
    model = ir.parse(HEADER + text)
    before = ir.to_text(model)
    refuse_unsupported(model)
    assert ir.to_text(model) == before


def test_each_node_comes_with_a_reason_and_a_suggestion() -> None:
    text = """g (float[4] x, float[1,3,4,4] i) => (float[4] y, float[1,3,4,4] p) {
        y = Bernoulli(x)
        p = RandomNormalLike(i)
    }"""
    with pytest.raises(UnsupportedOperatorsError) as caught:
        refuse_unsupported(ir.parse(HEADER + text))
    assert [(n.name, n.operator, n.reason) for n in caught.value.nodes] == [
        ("Bernoulli_y", "Bernoulli", "TVM's ONNX importer does not know it"),
        ("RandomNormalLike_p", "RandomNormalLike", "TVM's ONNX importer does not know it"),
    ]
    for node in caught.value.nodes:
        assert f"{node.operator} (nodes: {node}), because {node.reason}" in str(caught.value)
        assert node.suggestion in str(caught.value)


def test_strings_shapes_and_operators_are_in_one_report() -> None:
    text = """g (float[4] x, int64[2] s, string[2] a) =>
        (float[j,k] y, float[4] z, string[2] t, float[j,k] w) {
        y = Reshape(x, s) w = Neg(y)
        z = Bernoulli(x)
        t = StringConcat(a, a) }"""
    model = ir.parse(HEADER + text)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        refuse_early(model)
    assert {n.name: n.reason for n in caught.value.nodes} == {
        "Reshape_y": "takes a shape, or part of one, that is computed from data",
        "Bernoulli_z": "TVM's ONNX importer does not know it",
        "StringConcat_t": "it computes with strings",
    }
    assert all(n.suggestion for n in caught.value.nodes)
    with pytest.raises(UnsupportedOperatorsError) as again:
        gcompile.compile(model, cache=False)
    assert len(again.value.nodes) == 3


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("g (float8e4m3fn[2] x) => (float[2] y) { y = Cast<to = 1>(x) }", "'x' as float8_e4m3fn"),
        ("g (float[2] x) => (float8e5m2[2] y) { y = Cast<to = 19>(x) }", "'y' as float8_e5m2"),
    ],
)
def test_types_that_plain_arrays_lack_are_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(CompileError, match=name):
        refuse_unsupported(ir.parse(HEADER + text))
