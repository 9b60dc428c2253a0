"""Newer opsets whose operators are older ones need no conversion."""

from gcompile.ir import OPSET, parse, static_shape
from gcompile.ir.newer import NEWER


def text(opset: int, body: str) -> str:
    return f'<ir_version: 10, opset_import: ["": {opset}]> g (float[1,2,3,3] x) => {body}'


def test_what_the_converter_does_not_know_is_the_same_operator() -> None:
    model = parse(text(22, "(float[1,2,1,1] y) { y = GlobalMaxPool(x) }"))
    assert model.opset_imports[""] == OPSET
    assert [node.op_type for node in model.graph] == ["GlobalMaxPool"]


def test_a_remainder_of_floats_is_not_that_of_integers() -> None:
    model = parse(text(28, "(float[1,2,3,3] y) { y = Mod(x, x) }"))
    assert [(node.domain, node.op_type) for node in model.graph] == [(NEWER, "Mod")]
    (y,) = model.graph.outputs
    assert static_shape(y) == (1, 2, 3, 3)
