"""What cannot be read is refused by the name of a node, with a reason and a remedy."""

from __future__ import annotations

import pytest

from gcompile import ir
from gcompile.errors import InvalidModelError, UnsupportedOperatorsError


def parse(text: str, opset: int = 21) -> ir.Model:
    return ir.parse(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')


def test_strings_are_refused_by_node() -> None:
    model = parse("g (string[2] a, string[2] b) => (string[2] y) { y = StringConcat(a, b) }")
    with pytest.raises(UnsupportedOperatorsError, match=r"nodes: StringConcat_y.*with strings"):
        ir.refuse_nodes(model)


def test_strings_are_listed_beside_operators_that_nobody_defines() -> None:
    text = """g (string[2] a, float[2] x) => (string[2] y, float[2] z) {
        y = StringConcat(a, a) z = Swish(x) }"""
    with pytest.raises(UnsupportedOperatorsError) as caught:
        parse(text)
    assert [node.operator for node in caught.value.nodes] == ["Swish", "StringConcat"]


def test_the_node_that_makes_a_shape_unknown_is_named() -> None:
    model = parse("""g (float[4] x, int64[2] s) => (float[k] y) {
        i = Reshape(x, s)
        y = Neg(i) }""")
    with pytest.raises(InvalidModelError, match=r"Reshape \(node Reshape_i\) takes a shape"):
        ir.static_shape(model.graph.outputs[0])


def test_a_loop_that_stays_says_why() -> None:
    model = parse(
        """g (float[k] x, int64 m) => (float[j] y) {
        y = Loop(m, , x) <body: graph = b (int64 i, bool c, float[p] a) => (bool d, float[q] e)
            { d = Identity(c) e = Concat<axis = 0>(a, a) }> }""".replace("float[k]", "float[3]")
    )
    with pytest.raises(InvalidModelError, match="number of its rounds is computed"):
        ir.static_shape(model.graph.outputs[0])


def test_a_scan_of_a_batch_is_refused() -> None:
    text = """g (float[1,2] a, float[1,3,2] x) => (float[1,2] y) {
        y = Scan<num_scan_inputs = 1, body: graph = b (float[2] h, float[2] v) => (float[2] k)
        { k = Add(h, v) }>(, a, x) }"""
    with pytest.raises(UnsupportedOperatorsError, match=r"Scan.*before opset 9"):
        parse(text, 8)
