"""Products of quantized tensors become products between their conversions."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.canonicalize.lower_quantized_products import LowerQuantizedProducts
from gcompile.passes.pipelines import exact_pipeline
from tests.backends.tvm.lowering.compiling import parse

_CONV = """
    g (uint8[1,8,6,6] x) => (uint8[1,10,6,6] y)
    <float xs = {0.02}, uint8 xz = {128}, WEIGHT[10,8,3,3] w, float[10] ws, WEIGHT wz = {ZERO},
     float ys = {0.05}, uint8 yz = {120}, int32[10] b> {
        y = QLinearConv<pads = [1,1,1,1]>(x, xs, xz, w, ws, wz, ys, yz, b)
    }"""
_MATMUL = """
    g (uint8[3,20] x) => (uint8[3,10] y)
    <float xs = {0.02}, uint8 xz = {100}, WEIGHT[20,10] w, float ws = {0.01}, WEIGHT wz = {ZERO},
     float ys = {0.05}, uint8 yz = {7}> {
        y = QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz)
    }"""


def _model(text: str, dtype: str) -> ir.Model:
    zero = "128" if dtype == "uint8" else "0"
    rng = np.random.default_rng(0)
    scales = {"ws": rng.uniform(0.005, 0.02, 10).astype(np.float32)}
    return parse(text.replace("WEIGHT", dtype).replace("ZERO", zero), constants=scales)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("text", [_CONV, _MATMUL], ids=["QLinearConv", "QLinearMatMul"])
def test_integer_kernels_give_what_onnx_runtime_gives_within_one(text: str, dtype: str) -> None:
    model = _model(text, dtype)
    compiled = gcompile.compile(model, cache=False)
    assert compiled.report.fallbacks == {}
    assert [layer.precision for layer in compiled.report.layers] == ["int8"]
    for seed in range(3):
        x = np.random.default_rng(seed).integers(0, 256, ir.static_shape(model.graph.inputs[0]))
        inputs = {"x": x.astype(np.uint8)}
        given, outputs = OnnxRuntime()(model, inputs)["y"], compiled.artifact.run(inputs)["y"]
        assert np.abs(given.astype(int) - outputs.astype(int)).max() <= 1
        assert np.mean(given != outputs) < 0.01


def test_one_region_holds_the_product_and_its_conversions() -> None:
    model = _model(_CONV, "uint8")
    assert LowerQuantizedProducts().apply(model, testing.example_context()).changed == 1
    assert [node.op_type for node in model.graph] == [
        "DequantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear",
    ]  # fmt: skip
    exact_pipeline().apply(model, testing.example_context())
    (region,) = ir.regions(model.graph)
    assert region.precision is ir.Precision.INT8


def test_the_rewrite_keeps_the_contract() -> None:
    testing.check_pass(LowerQuantizedProducts(), _model(_MATMUL, "int8"))


def test_a_product_with_computed_scales_is_written_out_when_it_is_read() -> None:
    model = parse(
        """g (uint8[3,2] x, float xs) => (uint8[3,1] y)
        <float ws = {0.01}, uint8 xz = {1}, int8[2,1] w = {1, 2}, int8 wz = {0}, float ys = {0.5},
         uint8 yz = {3}> { y = QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz) }"""
    )
    assert "MatMul" in {node.op_type for node in model.graph}
    assert LowerQuantizedProducts().apply(model, testing.example_context()).changed == 0


def test_a_product_with_a_scale_for_each_row_is_left_alone() -> None:
    model = parse(
        """g (uint8[3,2] x) => (uint8[3,1] y)
        <float[3] xs = {0.1, 0.2, 0.3}, float ws = {0.01}, uint8[3] xz = {1, 1, 1},
         int8[2,1] w = {1, 2}, int8 wz = {0}, float ys = {0.5}, uint8 yz = {3}> {
            y = QLinearMatMul(x, xs, xz, w, ws, wz, ys, yz)
        }"""
    )
    record = LowerQuantizedProducts().apply(model, testing.example_context())
    assert tuple(record.skipped) == ("an activation has several scales",)


def test_parameters_of_one_element_become_scalars() -> None:
    text = _MATMUL.replace("WEIGHT", "int8").replace("ZERO", "0")
    text = text.replace("float xs", "float[1] xs").replace("uint8 yz", "uint8[1] yz")
    testing.check_pass(LowerQuantizedProducts(), parse(text))
