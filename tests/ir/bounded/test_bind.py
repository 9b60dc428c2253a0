"""Buffers of the largest size, cut to what counts, are what ONNX Runtime gives for the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import parser

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UnsupportedOperatorsError

FOUND = """p = NonZero(x) t = Transpose<perm = [1, 0]>(p) v = GatherND(x, t)"""
"""The numbers that are not zero, as a row."""

MODELS = {
    "places": "g (float[3,4] x) => (int64[2,n] p) { p = NonZero(x) }",
    "picked": f"g (float[3,4] x) => (float[n] v) {{ {FOUND} }}",
    "reshaped": f"""g (float[3,4] x) => (float[n,2] y, float[n] z)
        <int64[2] s = {{-1, 1}}, float[2] w = {{2, 3}}, int64[1] f = {{-1}}>
        {{ {FOUND} u = Reshape(v, s) y = Mul(u, w) z = Reshape(y, f) }}""",
    "reshaped by its own size": f"""g (float[3,4] x) => (float[n,1] y)
        <int64[1] one = {{1}}>
        {{ {FOUND} n = Shape(v) s = Concat<axis = 0>(n, one) y = Reshape(v, s) }}""",
    "slices": f"""g (float[3,4] x) => (float[n] a, float[m] b, float[k] c)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] five = {{5}},
         int64[1] last = {{-2}}, int64[1] end = {{9223372036854775807}}>
        {{ {FOUND} a = Slice(v, zero, five) b = Slice(v, one, last) c = Slice(v, one, end) }}""",
    "a slice to a computed end": """g (float[3,4] x) => (float[n,4] y)
        <int64[1] zero = {0}, int64 f = {0}> { m = ReduceMax<keepdims = 0>(x)
        r = Cast<to = 7>(m) one = Unsqueeze(r, zero) y = Slice(x, zero, one, zero) }""",
    "rows by place": f"""g (float[3,4] x) => (float[n,4] y, float[n] z, float[1] l)
        <int64 zero = {{0}}, int64[1] minus = {{-1}}>
        {{ {FOUND} r = Gather(p, zero) y = Gather(x, r) c = Gather<axis = 1>(t, zero)
           u = Neg(c) o = Mul(c, c) k = Gather(v, c) z = Identity(k) l = Gather(v, minus) }}""",
    "joined": f"""g (float[3,4] x) => (float[n] y, float[m,2] z)
        <float[2] a = {{7, 8}}, int64[2] s = {{-1, 1}}>
        {{ {FOUND} n = Neg(v) y = Concat<axis = 0>(v, a, n) u = Reshape(v, s) w = Abs(u)
           z = Concat<axis = 1>(u, w) }}""",
    "reduced": f"""g (float[3,4] x) => (float[1] a, float b, float c, float[1] d, int64 e)
        <int64[1] zero = {{0}}> {{ {FOUND} m = Neg(v) a = ReduceMax(m, zero)
        b = ReduceSum<keepdims = 0>(v, zero) c = ReduceMean<keepdims = 0>(v, zero)
        d = ReduceProd(v) e = ArgMin<axis = 0, keepdims = 0>(v) }}""",
    "softmax and sums": f"""g (float[3,4] x) => (float[n] y, float[n] z) <int64 zero = {{0}}>
        {{ {FOUND} y = Softmax<axis = 0>(v) z = CumSum(v, zero) }}""",
    "rows of a product": f"""g (float[3,4] x) => (float[n,3] y, float[n,3] z)
        <float[2,3] w = {{1, 2, 3, 4, 5, 6}}>
        {{ {FOUND} f = Cast<to = 1>(t) y = MatMul(f, w)
           s = Constant<value_floats = [1.0, 2.0, 3.0]>() z = LayerNormalization(y, s) }}""",
    "the best of those there are": f"""g (float[3,4] x) => (float[k] b, int64[k] i)
        <int64[1] five = {{5}}> {{ {FOUND} n = Shape(v) k = Min(n, five) b, i = TopK(v, k) }}""",
    "ranges and constants": f"""g (float[3,4] x) => (int64[n] r, float[n,2] c, float[n,2] e)
        <int64 one = {{1}}, int64 zero = {{0}}, int64[1] two = {{2}}, float[2] w = {{1, 2}}>
        {{ {FOUND} n = Shape(v) k = Squeeze(n) r = Range(zero, k, one)
           s = Concat<axis = 0>(n, two) c = ConstantOfShape(s) e = Expand(w, s) }}""",
    "kept by a condition": """g (float[3,4] x) => (float[n,4] y, float[3,m] z, float[k] w)
        <int64[1] one = {1}, int64[1] zero = {0}> { s = ReduceSum<keepdims = 0>(x, one)
        o = ReduceSum<keepdims = 0>(x, zero) f = Constant<value = float {0.0}>()
        c = Greater(s, f) d = Greater(o, f)
        y = Compress<axis = 0>(x, c) z = Compress<axis = 1>(x, d) w = Compress(x, d) }""",
    "divided": f"""g (float[3,4] x) => (int64[n] y) {{ {FOUND} o = Constant<value = int64 {{5}}>()
        zero = Constant<value = int64 {{0}}>() one = Constant<value = int64 {{1}}>()
        r = Gather(p, zero) s = Add(r, one) q = Sub(s, r) y = Div(o, q) }}""",
}


def read(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')


def expected(proto: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_buffers_hold_what_the_model_gives(name: str) -> None:
    proto = read(MODELS[name])
    model = ir.prepare(onnx_ir.from_proto(proto))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 4, (3, 4)).astype(np.float32)
        x[0, 0] = 1 + seed  # Something is always found.
        found: dict[str, Any] = OnnxRuntime()(model, {"x": x})
        for output, want in expected(proto, {"x": x}).items():
            assert found[output].dtype == want.dtype
            np.testing.assert_allclose(found[output], want, rtol=1e-5, atol=1e-6, err_msg=output)


def test_what_cannot_run_on_a_buffer_is_named_with_all_the_others() -> None:
    text = f"""g (float[3,4] x) => (float[n] a, float[m] b) <int64[1] s = {{4}}> {{ {FOUND}
        o = Abs(x) q = NonZero(o) r = Transpose<perm = [1, 0]>(q) u = GatherND(x, r)
        a = Add(v, u) b = Reshape(v, s) }}"""
    with pytest.raises(UnsupportedOperatorsError) as caught:
        ir.refuse_nodes(ir.prepare(onnx_ir.from_proto(read(text))))
    reasons = {node.operator: node.reason for node in caught.value.nodes}
    assert reasons == {
        "Add": "it reads sizes that are counted apart",
        "Reshape": "it gives a counted size a number",
    }


def test_a_branch_does_not_read_a_buffer_from_inside() -> None:
    text = f"""g (float[3,4] x, bool q) => (float s) {{ {FOUND}
        s = If(q) <then_branch = a () => (float o) {{ o = ReduceSum<keepdims = 0>(v) }},
                   else_branch = b () => (float u) {{ u = ReduceMax<keepdims = 0>(x) }}> }}"""
    with pytest.raises(UnsupportedOperatorsError, match=r"If .*counted while the model runs"):
        ir.refuse_nodes(ir.prepare(onnx_ir.from_proto(read(text))))


def test_a_written_model_is_one_that_others_can_run() -> None:
    model = ir.prepare(onnx_ir.from_proto(read(MODELS["picked"])))
    x = np.array([[0, 1, 2, 0]] * 3, np.float32)
    found = expected(ir.to_proto(model), {"x": x})
    assert found["v"].tolist() == [1, 2, 1, 2, 1, 2, 0, 0, 0, 0, 0, 0]
    (count,) = [count for name, axis, count in ir.counts_of(model)]
    assert found[count].tolist() == [6]
    again = ir.prepare(onnx_ir.from_proto(ir.to_proto(model)))
    assert OnnxRuntime()(again, {"x": x})["v"].tolist() == [1, 2, 1, 2, 1, 2]
