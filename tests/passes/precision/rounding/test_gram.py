from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.precision.rounding import collect_grams, from_rows, to_rows
from gcompile.passes.precision.rounding.gram import Windows
from tests.passes.precision.models import context, fused

PRODUCTS = {
    "conv": "g (float[2,3,9,7] x) => (float[2,4,5,4] y) <float[4,3,3,3] w> {"
    " y = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w) }",
    "dilated": "g (float[1,4,9,8] x) => (float[1,6,4,6] y) <float[6,2,3,2] w> {"
    " y = Conv<pads = [0,1,0,0], strides = [1,1], dilations = [2,3], group = 2>(x, w) }",
    "depthwise": "g (float[1,5,6,6] x) => (float[1,5,6,6] y) <float[5,1,3,3] w> {"
    " y = Conv<auto_pad = \"SAME_UPPER\", group = 5>(x, w) }",
    "line": "g (float[1,3,11] x) => (float[1,2,9] y) <float[2,3,3] w> { y = Conv(x, w) }",
    "gemm": "g (float[3,5] x) => (float[3,4] y) <float[4,5] w> {"
    " y = Gemm<transB = 1>(x, w) }",
    "matmul": "g (float[2,3,5] x) => (float[2,3,4] y) <float[5,4] w> { y = MatMul(x, w) }",
}  # fmt: skip


@pytest.mark.parametrize("text", PRODUCTS.values(), ids=PRODUCTS)
def test_rows_of_inputs_times_rows_of_weights_are_the_product(text: str) -> None:
    model = fused(text)
    node = model.graph[0]
    x = np.random.default_rng(0).normal(size=ir.static_shape(node.inputs[0])).astype(np.float32)
    want = OnnxRuntime()(model, {"x": x})["y"].astype(np.float64)
    windows, weight = Windows.of(node), ir.constant_array(node.inputs[1])
    assert weight is not None
    weights = to_rows(node, weight).astype(np.float64)
    np.testing.assert_array_equal(from_rows(node, to_rows(node, weight), weight.shape), weight)
    rows = windows.rows(x, windows.pick(x, 10**6, np.random.default_rng(0)))
    got = rows @ weights.transpose(0, 2, 1)
    if node.op_type == "Conv":
        want = np.moveaxis(want, 1, -1).reshape(-1, windows.groups, weights.shape[1])
        want = want.transpose(1, 0, 2)
    np.testing.assert_allclose(got, want.reshape(got.shape), atol=1e-5)


@pytest.mark.parametrize("text", PRODUCTS.values(), ids=PRODUCTS)
def test_the_gram_matrix_is_the_mean_of_all_rows(text: str) -> None:
    model = fused(text)
    ctx = context(model, rows=42)
    assert ctx.calibration is not None
    assert ctx.run is not None
    node = model.graph[0]
    windows, x = Windows.of(node), ctx.calibration["x"]
    rows = windows.rows(x, windows.pick(x, 10**6, np.random.default_rng(0)))
    want = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
    grams = collect_grams(model, {"only": node}, ctx.calibration, ctx.run)
    np.testing.assert_allclose(grams["only"], want, rtol=1e-12, atol=1e-12)
