"""Loops that go on as long as the data says, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import parser

import gcompile
from gcompile import ir, runtime
from gcompile.backends.onnx_backend import GcompileBackend
from gcompile.errors import UnsupportedOperatorsError

GROWING = """g (float[3] x, int64 m, float limit) => (float[3] y, int64 n)
    <int64 zero = {0}, bool go = {1}> {
    y, n = Loop(m, go, x, zero) <body = b (int64 i, bool c, float[3] a, int64 k)
        => (bool d, float[3] e, int64 l) <int64 one = {1}, float f = {1.5}> {
        h = Mul(a, f) e = Add(h, x) l = Add(k, one) s = ReduceSum<keepdims = 0>(e)
        d = Less(s, limit) }> }"""

NESTED = """g (float[4] x, int64[1] m) => (float[4] y) <int64 most = {20}> {
    y = Loop(m, , x) <body = b (int64 i, bool c, float[4] a) => (bool d, float[4] e) {
        d = Identity(c) f = Cast<to = 1>(i) s = ReduceSum<keepdims = 0>(a) q = Less(s, f)
        t = If(q) <then_branch = p () => (float[4] o) { o = Add(a, f) },
                   else_branch = r () => (float[4] u) { u = Neg(a) }>
        e = Loop(most, q, t) <body = v (int64 j, bool g, float[4] h) => (bool k, float[4] l) {
            l = Add(h, x) w = ReduceMax<keepdims = 0>(l) k = Less(w, f) }> }> }"""

ROWS = """g (float[5,2] x, int64 m) => (float[5,2] y, float[5,2] z) <bool go = {1}> {
    y = Loop(m, go, x) <body = b (int64 i, bool c, float[5,2] a) => (bool d, float[5,2] e)
        <int64[1] row = {1}, int64[1] shape = {1}> { r = Reshape(i, shape)
        v = Gather(a, row) u = Mul(v, v) s = Constant<value_ints = [1, 1]>()
        t = Reshape(r, s) e = ScatterND(a, t, u) d = Identity(c) }>
    z = Neg(x) }"""


def read(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')


def agree(compiled: Any, proto: onnx.ModelProto, *inputs: Any) -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    wanted = session.run(None, dict(zip(names, inputs, strict=True)))
    for got, want in zip(compiled.run(list(inputs)), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert not compiled.bound


def test_a_loop_ends_where_the_data_says() -> None:
    proto = read(GROWING)
    compiled = GcompileBackend.prepare(proto)
    x = np.array([1, 2, 3], np.float32)
    for rounds, limit in ((0, 10), (1, 10), (5, 1e9), (9, 1e9), (100, 50), (100, 1e9), (7, 0)):
        agree(compiled, proto, x, np.array(rounds), np.array(limit, np.float32))


def test_loops_and_branches_lie_inside_loops() -> None:
    proto = read(NESTED)
    compiled = GcompileBackend.prepare(proto)
    for seed, rounds in ((0, 3), (1, 12), (2, 0)):
        x = np.random.default_rng(seed).standard_normal(4).astype(np.float32)
        agree(compiled, proto, x, np.array([rounds]))


def test_a_state_whose_rows_are_replaced_leaves_the_input_alone() -> None:
    proto = read(ROWS)
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    agree(GcompileBackend.prepare(proto), proto, x, np.array(4))


def test_a_loop_is_built_verified_and_priced(tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    onnx.save(read(GROWING.replace("int64 m, ", "").replace(
        "<int64 zero", "<int64 m = {50}, int64 zero")), path)  # fmt: skip
    compiled = gcompile.compile(path, output=tmp_path / "artefact", cache=False)
    assert any("rounds" in note for note in compiled.report.notes)
    found = runtime.load(tmp_path / "artefact").run(
        {"x": np.ones(3, np.float32), "limit": np.array(100, np.float32)}
    )
    assert found["n"] == 7


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("b (int64 i, bool c, float[3] a) => (bool d, float[3] e, float[3] f) { d = Identity(c) "
         "e = Neg(a) f = Abs(a) }", "collects a result of each round"),
        ("b (int64 i, bool c, float[p] a) => (bool d, float[q] e) { d = Identity(c) "
         "e = Concat<axis = 0>(a, a) }", "shape of its state changes"),
    ],
)  # fmt: skip
def test_loops_that_grow_are_refused_by_name(body: str, reason: str) -> None:
    outputs = "y, z" if "float[3] f)" in body else "y"
    text = f"""g (float[3] x, int64 m) => (float[j] y) {{
        {outputs} = Loop(m, , x) <body = {body}> }}"""
    with pytest.raises(UnsupportedOperatorsError, match=reason):
        gcompile.compile(onnx_ir.from_proto(read(text)), cache=False)


def test_gpus_are_given_all_their_work_at_once() -> None:
    with pytest.raises(UnsupportedOperatorsError, match="decides what is next"):
        gcompile.compile(onnx_ir.from_proto(read(GROWING)), "nvidia-a100", cache=False)


def test_the_price_of_a_loop_is_that_of_its_most_rounds() -> None:
    def joules(rounds: int) -> float:
        text = GROWING.replace("int64 m, ", "").replace(
            "<int64 zero", f"<int64 m = {{{rounds}}}, int64 zero"
        )
        found = gcompile.estimate(onnx_ir.from_proto(read(text)), "x86-64-v3")
        return float(found.total.energy_j)

    assert joules(64) > 6 * joules(8)


def test_a_loop_keeps_its_place_in_the_graph() -> None:
    model = ir.prepare(onnx_ir.from_proto(read(GROWING)))
    assert [ir.static_shape(value) for value in model.graph.outputs] == [(3,), ()]
