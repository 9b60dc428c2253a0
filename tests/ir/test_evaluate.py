"""What can be computed before run time."""

import numpy as np

from gcompile import ir

CAST_LIKE = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[2,3] x) => (float[3] y) <int64[1] half = {3}, double[1] zero = {0}> {
        like = CastLike(zero, x)
        bias = Expand(like, half)
        y = Add(bias, bias)
    }"""


def test_a_cast_like_needs_only_the_type_of_what_it_imitates() -> None:
    model = ir.parse(CAST_LIKE)
    cast = next(node for node in model.graph if node.op_type == "CastLike")
    found = ir.evaluate_node(cast, ir.OPSET)
    assert found is not None
    assert found[0].dtype == np.float32


def test_shapes_that_depend_on_a_cast_like_are_known() -> None:
    model = ir.parse(CAST_LIKE)
    assert [ir.static_shape(node.outputs[0]) for node in model.graph] == [(1,), (3,), (3,)]


def test_a_value_that_arrives_at_run_time_is_not_computed() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x) => (float[2] y) { y = Neg(x) }"""
    (node,) = ir.parse(text).graph
    assert ir.evaluate_node(node, ir.OPSET) is None
