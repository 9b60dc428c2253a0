from __future__ import annotations

from dataclasses import replace

import numpy as np

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.precision import (
    QuantizeStatic,
    RangeMethod,
    assign_precisions,
    product_regions,
)
from tests.passes.precision.models import ATTENTION, context, fused

CLIPPING = QuantizeStatic(calibration=RangeMethod.PERCENTILE, percentile=97.0)


def mean_error(options: QuantizeStatic, text: str) -> float:
    """How far the channel means of the output are off, on average."""
    model = fused(text, spread=10.0)
    ctx = context(model, rows=64)
    assert ctx.calibration is not None
    want = OnnxRuntime()(model, ctx.calibration)["y"].astype(np.float64)
    options.run(model, ctx)
    got = OnnxRuntime()(model, ctx.calibration)["y"].astype(np.float64)
    return float(np.abs(got.mean(axis=0) - want.mean(axis=0)).mean())


CONVOLUTIONS = """
    g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[4,4,3,3] w, float[4,4,1,1] v> {
        c = Conv<pads = [1,1,1,1]>(x, w)
        r = Relu(c)
        y = Conv(r, v)
    }"""


def test_correction_removes_much_of_the_mean_error_that_clipping_leaves() -> None:
    without = mean_error(replace(CLIPPING, bias_correction=False), CONVOLUTIONS)
    assert mean_error(CLIPPING, CONVOLUTIONS) < 0.6 * without


def test_a_convolution_without_bias_gets_one() -> None:
    model = fused(CONVOLUTIONS, spread=10.0)
    CLIPPING.run(model, context(model))
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    assert [len(node.inputs) for node in convolutions] == [3, 3]


def test_a_bias_added_after_a_matrix_product_is_corrected_in_place() -> None:
    model = ir.parse(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[1,2,3] x) => (float[1,2,2] y)
        <float[3,2] w = {0.3, -1.7, 0.9, 0.41, 1.3, -0.77}, float[2] b = {0.5, -0.25}> {
            m = MatMul(x, w)
            y = Add(m, b)
        }"""
    )
    for node in model.graph:
        ir.assign_region(node, str(model.graph[0].name))
    replace(CLIPPING, percentile=80.0).run(model, context(model, rows=64))
    add = next(node for node in model.graph if node.op_type == "Add")
    assert [value.name for value in add.inputs if value is not None] == ["m", "b_corrected"]


def test_a_correction_that_does_not_help_is_taken_back() -> None:
    model = fused("g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 1}> {"
                  " y = Gemm(x, w) }")  # fmt: skip
    ctx = testing.example_context(
        calibration={"x": np.array([[0, 255], [255, 0], [1, 7]], np.float32)}
    )
    QuantizeStatic().run(model, replace(ctx, run=OnnxRuntime()))
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    assert len(gemm.inputs) == 2
    assert set(model.graph.initializers) == {
        "x_scale", "x_zero_point", "w_stored", "w_scale", "w_zero_point",
    }  # fmt: skip


def test_a_product_without_weights_has_nothing_to_correct() -> None:
    model = fused(ATTENTION)
    scores = next(r for r in product_regions(model) if r.name == "MatMul_s")
    assert assign_precisions(model, {scores.name: ir.Precision.INT8}, context(model)) == 1
    ir.verify(model)
