from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import PassError
from gcompile.passes.precision import EmulateFormat, NumberFormat
from tests.passes.precision.models import CONV_CHAIN, context, fused, rows_for, weight_of

BLOCKED = [name for name in NumberFormat if name.block is not None]
PRODUCTS = {
    "matmul": "g (float[2,3,45] x) => (float[2,3,4] y) <float[45,4] w> { y = MatMul(x, w) }",
    "turned": "g (float[3,64] x) => (float[3,4] y) <float[4,64] w> {"
    " y = Gemm<transB = 1>(x, w) }",
    "conv": "g (float[2,37,4,5] x) => (float[2,3,4,5] y) <float[3,37,1,1] w> {"
    " y = Conv(x, w) }",
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.parametrize("text", PRODUCTS.values(), ids=PRODUCTS)
def test_what_the_graph_rounds_is_what_the_format_says_bit_for_bit(
    text: str, name: NumberFormat
) -> None:
    model = fused(text)
    EmulateFormat(format=name).run(model, context(model))
    product = next(n for n in model.graph if n.op_type in ("MatMul", "Gemm", "Conv"))
    rounded = product.inputs[0]
    assert rounded is not None
    model.graph.outputs.append(rounded)
    shape = ir.static_shape(rounded)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=shape) * 2.0 ** rng.integers(-12, 12, size=shape)
    rows[0, 0] = 0.0
    x = rows.astype(np.float32)
    axis = 1 if product.op_type == "Conv" else -1
    want = np.moveaxis(name.nearest(np.moveaxis(x.astype(np.float64), axis, -1)), -1, axis)
    np.testing.assert_array_equal(OnnxRuntime()(model, {"x": x})[str(rounded.name)], want)


@pytest.mark.parametrize("name", [NumberFormat.E4M3, NumberFormat.E5M2])
def test_formats_without_blocks_scale_by_the_largest_number_seen(name: NumberFormat) -> None:
    model = fused(PRODUCTS["turned"])
    weight = weight_of(model.graph[0])
    ctx = context(model, rows=60)
    assert ctx.calibration is not None
    EmulateFormat(format=name).run(model, ctx)
    product = next(n for n in model.graph if n.op_type == "Gemm")
    np.testing.assert_array_equal(weight_of(product), np.float32(name.nearest(weight)))
    rounded = product.inputs[0]
    assert rounded is not None
    model.graph.outputs.append(rounded)
    x = ctx.calibration["x"]
    got = OnnxRuntime()(model, {"x": x[:3]})[str(rounded.name)].astype(np.float64)
    scale = float(np.abs(x).max()) / name.element.largest
    want = name.element.nearest(x[:3].astype(np.float64) / scale) * scale
    np.testing.assert_allclose(got, want, rtol=2.0**-name.element.mantissa)
    assert np.mean(np.abs(got - want) <= 1e-6 * np.abs(want)) > 0.98


def test_fewer_bits_move_the_outputs_further() -> None:
    def error(name: NumberFormat) -> float:
        model = fused(CONV_CHAIN)
        rows = {"x": rows_for(model, 1)["x"]}
        expected = OnnxRuntime()(model, rows)["y"].astype(np.float64)
        EmulateFormat(format=name).run(model, context(model))
        got = OnnxRuntime()(model, rows)["y"].astype(np.float64)
        return float(((got - expected) ** 2).sum())

    errors = [error(NumberFormat(name)) for name in ("mxint8", "mxfp8", "mxfp4")]
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", NumberFormat)
def test_the_pass_keeps_its_contract(name: NumberFormat) -> None:
    model = fused(CONV_CHAIN)
    record = testing.check_pass(EmulateFormat(format=name), model, ctx=context(model))
    assert record.changed == 3
    reason = "it is a grouped convolution, which vector units compute in fp32"
    assert record.skipped == {reason: 1}


def test_rows_are_needed_only_by_formats_that_scale_whole_tensors() -> None:
    model = fused(PRODUCTS["matmul"])
    without = replace(context(model), calibration=None)
    with pytest.raises(PassError, match="needs calibration rows"):
        EmulateFormat(format=NumberFormat.E4M3).run(model, without)
    assert EmulateFormat(format=NumberFormat.E4M3, activations=False).run(model, without) == 1
