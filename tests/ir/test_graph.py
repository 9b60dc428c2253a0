"""Small questions about a graph, and small changes to it."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir
from gcompile.errors import InvalidModelError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
CHAIN = HEADER + "g (float[3] x) => (float[3] y) { a = Neg(x) b = Identity(a) y = Relu(b) }"


def test_bypassing_a_node_keeps_the_name_of_an_output() -> None:
    model = ir.parse(HEADER + "g (float[3] x) => (float[3] y) { a = Neg(x) y = Identity(a) }")
    negate, identity = model.graph
    assert ir.bypass(identity, negate.outputs[0]) is None
    assert [value.name for value in negate.outputs] == ["y"]
    ir.verify(model)


def test_the_only_reader_is_none_where_there_are_more() -> None:
    model = ir.parse(
        HEADER + "g (float[3] x) => (float[3] y, float[3] a) { a = Neg(x) y = Relu(a) }"
    )
    negate, relu = model.graph
    assert ir.only_reader(negate.outputs[0]) is None
    assert ir.only_reader(model.graph.inputs[0]) is negate
    assert ir.only_reader(relu.outputs[0]) is None


def test_new_constants_get_names_of_their_own() -> None:
    model = ir.parse(CHAIN)
    names = [ir.add_constant(model.graph, "x", np.zeros(3, np.float32)).name for _ in range(2)]
    assert names == ["x_1", "x_2"]


def test_verify_finds_values_read_before_they_exist() -> None:
    model = ir.parse(CHAIN)
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    with pytest.raises(InvalidModelError, match="reads 'a' before it exists"):
        ir.verify(model)


def test_verify_finds_names_used_twice() -> None:
    model = ir.parse(CHAIN)
    model.graph[1].name = model.graph[0].name
    with pytest.raises(InvalidModelError, match="used twice"):
        ir.verify(model)


def test_origin_survives_and_names_every_source() -> None:
    model = ir.parse(CHAIN)
    negate, identity, relu = model.graph
    ir.add_origin(relu, [identity], "one-pass")
    ir.add_origin(relu, [negate], "other-pass")
    assert ir.origin_of(relu) == ("Relu_y", "Identity_b", "Neg_a")
    copy = model.clone()
    assert ir.origin_of(copy.graph[2]) == ir.origin_of(relu)


def test_evaluating_needs_constants_or_only_shapes() -> None:
    model = ir.parse(
        HEADER
        + """g (float[2,3] x) => (float[2,3] y, int64[2] s) <float[3] c = {1, 2, 3}> {
            n = Neg(c)
            s = Shape(x)
            y = Add(x, n)
        }"""
    )
    negate, shape, add = model.graph
    assert [a.tolist() for a in ir.evaluate_node(negate, ir.OPSET) or ()] == [[-1, -2, -3]]
    assert [a.tolist() for a in ir.evaluate_node(shape, ir.OPSET) or ()] == [[2, 3]]
    assert ir.evaluate_node(add, ir.OPSET) is None


@pytest.mark.parametrize(
    ("body", "decodes"),
    [
        ("y = DequantizeLinear(q, s)", True),
        ("y = Cast<to = 1>(h)", True),
        ("y = Cast<to = 1>(q)", False),
    ],
)
def test_decoders_are_what_turns_stored_into_computed_formats(body: str, decodes: bool) -> None:
    text = f"g (uint8[3] q, bfloat16[3] h) => (float[3] y) <float s = {{0.5}}> {{ {body} }}"
    assert ir.decodes_storage(ir.parse(HEADER + text).graph[0]) is decodes


@pytest.mark.parametrize(
    ("node", "mnk"),
    [
        ("Conv<pads = [1, 1, 1, 1]>(x, w)", (36, 4, 18)),
        ("Conv<strides = [2, 2], auto_pad = \"SAME_UPPER\">(x, w)", (9, 4, 18)),
    ],
)  # fmt: skip
def test_convolutions_are_products(node: str, mnk: tuple[int, int, int]) -> None:
    numbers = ", ".join("1" for _ in range(72))
    model = ir.parse(
        HEADER
        + f"g (float[1,2,6,6] x) => (float[1,4,?,?] y) <float[4,2,3,3] w = {{{numbers}}}> "
        + f"{{ y = {node} }}"
    )
    contraction = ir.contraction_of(model.graph[0])
    assert contraction is not None
    assert (contraction.m, contraction.n, contraction.k) == mnk


def test_only_the_border_of_a_region_moves_bytes() -> None:
    model = ir.parse(HEADER + "g (float[8] x) => (float[8] y) { a = Neg(x) y = Relu(a) }")
    for node in model.graph:
        ir.assign_region(node, "r")
    (region,) = ir.regions(model.graph)
    work = ir.work_of(region)
    assert (work.read_bytes, work.write_bytes, work.vector_ops) == (32, 32, 16)
    assert region.op == "Neg+Relu"
    assert all(ir.clear_region(node) for node in model.graph)
    assert len(ir.regions(model.graph)) == 2
