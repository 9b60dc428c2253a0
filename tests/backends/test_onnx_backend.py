"""gcompile as ONNX's own tests call it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, parser

from gcompile.backends.onnx_backend import GcompileBackend
from gcompile.errors import InvalidModelError, UnsupportedOperatorsError, UsageError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + text)


def test_a_model_runs_on_shapes_that_are_known_when_it_is_run() -> None:
    compiled = GcompileBackend.prepare(model("g (float[n,3] x) => (float[n,3] y) { y = Neg(x) }"))
    for rows in (2, 5):
        x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
        (y,) = compiled.run([x])
        np.testing.assert_array_equal(y, -x)
    assert not compiled.bound


def test_inputs_that_decide_shapes_are_bound_to_their_values() -> None:
    text = "g (float[6] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }"
    compiled = GcompileBackend.prepare(model(text))
    x = np.arange(6, dtype=np.float32)
    for shape in ((2, 3), (3, 2)):
        (y,) = compiled.run({"x": x, "s": np.array(shape)})
        np.testing.assert_array_equal(y, x.reshape(shape))
    assert compiled.bound == ("s",)


def test_scales_decide_shapes_and_inputs_without_elements_have_one_value() -> None:
    text = "g (float[1,1,1,2] x, float[4] s) => (float[a,b,c,d] y) { y = Resize(x, , s) }"
    compiled = GcompileBackend.prepare(model(text))
    x = np.array([[[[1, 2]]]], np.float32)
    (y,) = compiled.run([x, np.array([1, 1, 1, 2], np.float32)])
    np.testing.assert_array_equal(y, [[[[1, 1, 2, 2]]]])
    assert compiled.bound == ("s",)
    text = "g (float[2,0] x) => (float[2] y) { y = ReduceMax<keepdims = 0>(x, a) }"
    reduced = GcompileBackend.prepare(model(text.replace("{", "<int64[1] a = {1}> {", 1)))
    (y,) = reduced.run([np.zeros((2, 0), np.float32)])
    np.testing.assert_array_equal(y, [-np.inf, -np.inf])


def test_eight_bit_floats_and_four_bit_integers_cross_the_border() -> None:
    text = """g (float8e4m3fn[3] x, int4[3] n) => (float8e5m2[3] y, int4[3] m, float[3] z) {
        s = Constant<value = float {0.5}>()
        f = Cast<to = 1>(x) y = Cast<to = 19>(f) g = Neg(f) m = Cast<to = 22>(g)
        z = DequantizeLinear(n, s)
    }"""
    x = np.array([1.75, -2.5, 300.0]).astype(ml_dtypes.float8_e4m3fn)
    n = np.array([-8, 7, 3]).astype(ml_dtypes.int4)
    y, m, z = GcompileBackend.run_model(model(text), [x, n])
    np.testing.assert_array_equal(y, x.astype(np.float32).astype(ml_dtypes.float8_e5m2))
    assert m.dtype == ml_dtypes.int4
    np.testing.assert_array_equal(m[:2].astype(np.int8), [-1, 2])
    np.testing.assert_array_equal(z, [-4.0, 3.5, 1.5])


def test_bfloat16_is_computed_in_float32_and_kept_at_the_border() -> None:
    text = "g (bfloat16[2,3] x, bfloat16[3] b) => (bfloat16[2,3] y) { y = Add(x, b) }"
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    b = np.array([0.5, 1.25, 257.0]).astype(ml_dtypes.bfloat16)
    (y,) = GcompileBackend.run_model(model(text), [x, b])
    assert y.dtype == ml_dtypes.bfloat16
    expected = (x.astype(np.float32) + b.astype(np.float32)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(y, expected)


def test_arithmetic_on_eight_bit_floats_is_refused() -> None:
    text = "g (float8e5m2[3] x) => (float8e5m2[3] y) { y = Relu(x) }"
    with pytest.raises(InvalidModelError):  # As ONNX has it, too.
        GcompileBackend.run_model(model(text), [np.ones(3, ml_dtypes.float8_e5m2)])


def test_a_node_runs_alone() -> None:
    node = helper.make_node("Add", ["a", "b"], ["c"])
    a, b = np.ones((2, 3), np.float32), np.full(3, 2, np.float32)
    (c,) = GcompileBackend.run_node(node, [a, b])
    np.testing.assert_array_equal(c, np.full((2, 3), 3, np.float32))


def test_what_cannot_be_compiled_is_refused() -> None:
    refused = model("g (float[4,4] x) => (float[4,4] y) { y = Bernoulli(x) }")
    with pytest.raises(UnsupportedOperatorsError, match="Bernoulli"):
        GcompileBackend.run_model(refused, [np.eye(4, dtype=np.float32)])
    with pytest.raises(UsageError, match="takes 1 inputs"):
        GcompileBackend.run_model(refused, [])
    assert not GcompileBackend.supports_device("CUDA")
