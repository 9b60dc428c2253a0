"""Branches, loops and sequences that constants decide are written out as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import parser

from gcompile import ir
from gcompile.testing import example_inputs

MODELS = {
    "a loop of known rounds": """g (float[3] x) => (float[3] y, float[n,3] s)
        <int64 m = {4}> {
        y, s = Loop(m, , x) <body: graph = b (int64 i, bool c, float[3] a)
            => (bool d, float[3] e, float[3] f)
            { d = Identity(c) t = CastLike(i, a) e = Add(a, t) f = Mul(e, x) }> }""",
    "a loop that decides when to end": """g (float[3] x) => (float[3] y)
        <int64 three = {3}> {
        y = Loop(, , x) <body: graph = b (int64 i, bool c, float[3] a) => (bool d, float[3] e)
            { d = Less(i, three) e = Add(a, x) }> }""",
    "a loop in a loop": """g (float[3] x) => (float[3] y)
        <int64 m = {2}, int64 n = {3}> {
        y = Loop(m, , x) <body: graph = b (int64 i, bool c, float[3] a) => (bool d, float[3] e)
            { d = Identity(c)
              e = Loop(n, , a) <body: graph = k (int64 j, bool p, float[3] q)
                => (bool r, float[3] s) { r = Identity(p) s = Add(q, x) }> }> }""",
    "a scan backward over another axis": """g (float[2] a, float[2,5] x)
        => (float[2] y, float[2,5] s) {
        y, s = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
            scan_output_axes = [1], scan_output_directions = [1],
            body: graph = b (float[2] h, float[2] v) => (float[2] k, float[2] o)
            { k = Add(h, v) o = Mul(k, v) }> (a, x) }""",
    "a branch whose outputs have another rank": """g (float[2,3] x) => (float[k] y) {
        n = Size(x)
        six = Constant<value = int64 {6}>()
        is = Equal(n, six)
        y = If(is) <then_branch: graph = t () => (float[a] u)
            { w = Constant<value = int64[1] {-1}>() u = Reshape(x, w) },
            else_branch: graph = e () => (float[b,c] v) { v = Neg(x) }> }""",
    "elements of a sequence": """g (float[2,3] x, float[2,3] z) => (float[2,6] y, int64 n)
        <int64 one = {1}, int64 last = {-1}> {
        e = SequenceEmpty()
        a = SequenceInsert(e, x)
        b = SequenceInsert(a, z, one)
        c = SequenceInsert(b, x)
        d = SequenceErase(c, last)
        y = ConcatFromSequence<axis = 1>(d)
        n = SequenceLength(d) }""",
    "parts put on a new axis": """g (float[5,3] x) => (float[3,5] y, float[3] z)
        <int64 two = {2}> {
        a = SplitToSequence<axis = 0, keepdims = 0>(x)
        y = ConcatFromSequence<axis = 1, new_axis = 1>(a)
        z = SequenceAt(a, two) }""",
}


def read(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 21]>\n{text}')


def run(proto: onnx.ModelProto, inputs: Mapping[str, Any]) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, dict(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_out_computes_the_same(name: str) -> None:
    proto = read(MODELS[name])
    model = ir.prepare(onnx_ir.from_proto(proto))
    operators = {node.op_type for node in model.graph}
    assert not operators & {"If", "Loop", "Scan"}
    assert not any("Sequence" in operator for operator in operators)
    written = onnx_ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    inputs = example_inputs(model)
    for found, wanted in zip(run(written, inputs), run(proto, inputs), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_sequence_is_returned_as_the_tensors_in_it() -> None:
    text = """g (float[4,3] x) => (seq(float[k,3]) y)
        { s = Constant<value = int64[2] {1, 3}>() y = SplitToSequence(x, s) }"""
    model = ir.prepare(onnx_ir.from_proto(read(text)))
    assert [(v.name, ir.static_shape(v)) for v in model.graph.outputs] == [
        ("y[0]", (1, 3)),
        ("y[1]", (3, 3)),
    ]


def test_a_sequence_is_taken_as_the_tensors_in_it() -> None:
    text = "g (seq(float[k,3]) x) => (float[n,3] y) { y = ConcatFromSequence<axis = 0>(x) }"
    model = onnx_ir.from_proto(read(text))
    arrays = [np.ones((rows, 3), np.float32) for rows in (2, 4)]
    assert list(ir.take_elements(model, {"x": arrays})) == ["x[0]", "x[1]"]
    assert ir.static_shape(ir.prepare(model).graph.outputs[0]) == (6, 3)


def test_a_loop_whose_rounds_are_computed_stays() -> None:
    text = """g (float[3] x, int64 m) => (float[3] y) {
        y = Loop(m, , x) <body: graph = b (int64 i, bool c, float[3] a) => (bool d, float[3] e)
            { d = Identity(c) e = Add(a, x) }> }"""
    model = ir.prepare(onnx_ir.from_proto(read(text)))
    assert [node.op_type for node in model.graph] == ["Loop"]
