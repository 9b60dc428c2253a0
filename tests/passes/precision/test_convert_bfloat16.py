from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.pipelines import exact_pipeline
from gcompile.passes.precision import ConvertBfloat16
from tests.ir.weight_only import weight_only
from tests.passes.precision.models import (
    CONV_CHAIN,
    context,
    fused,
    rows_for,
    signal_to_noise_db,
)


def test_a_product_reads_and_writes_bfloat16() -> None:
    model = fused("""
        g (float[1,4] x) => (float[1,2] y) <float[4,3] w, float[3,2] v> {
            a = MatMul(x, w)
            r = Relu(a)
            y = MatMul(r, v)
        }""")
    assert ConvertBfloat16().run(model, testing.example_context()) == 2
    assert testing.to_lines(model) == "\n".join(
        [
            "x_stored = Cast<to=16>(x)",
            "x_decoded = Cast<to=1>(x_stored)",
            "w_decoded = Cast<to=1>(w_stored)",
            "a = MatMul(x_decoded, w_decoded)",
            "r = Relu(a)",
            "r_stored = Cast<to=16>(r)",
            "r_decoded = Cast<to=1>(r_stored)",
            "v_decoded = Cast<to=1>(v_stored)",
            "y = MatMul(r_decoded, v_decoded)",
        ]
    )
    assert [r.precision for r in ir.regions(model.graph)][1:] == [ir.Precision.BF16] * 2


def test_weights_are_the_nearest_bfloat16_numbers() -> None:
    model = fused("g (float[1,4] x) => (float[1,3] y) <float[4,3] w> { y = MatMul(x, w) }")
    weight = ir.constant_array(model.graph.initializers["w"])
    assert weight is not None
    ConvertBfloat16().run(model, testing.example_context())
    stored = ir.constant_array(model.graph.initializers["w_stored"])
    assert stored is not None
    np.testing.assert_array_equal(stored, weight.astype(ml_dtypes.bfloat16))


def test_outputs_stay_close_and_depthwise_convolutions_stay_in_fp32() -> None:
    model = fused(CONV_CHAIN)
    narrow = model.clone()
    record = ConvertBfloat16().apply(narrow, testing.example_context())
    assert record.changed == 3
    assert dict(record.skipped) == {
        "it is a depthwise convolution, which vector units compute in fp32": 1
    }
    testing.check_regions(narrow)
    rows = rows_for(model, 16)
    want, got = OnnxRuntime()(model, rows)["y"], OnnxRuntime()(narrow, rows)["y"]
    assert signal_to_noise_db(want, got) > 40


def test_only_the_regions_named_change() -> None:
    model = fused(CONV_CHAIN)
    last = ir.regions(model.graph)[-1].name
    assert ConvertBfloat16(regions=(last,)).run(model, context(model)) == 1
    found = {r.name: r.precision for r in ir.regions(model.graph) if r.anchor is not None}
    assert [name for name, p in found.items() if p is ir.Precision.BF16] == [last]


def test_a_second_run_changes_nothing() -> None:
    model = fused(CONV_CHAIN)
    ctx = replace(context(model), calibration=None)
    ConvertBfloat16().run(model, ctx)
    assert ConvertBfloat16().run(model, ctx) == 0


def test_weights_that_are_stored_as_integers_are_rounded_where_they_are_decoded() -> None:
    model = weight_only((2, 64, 8), "int4", 32)
    exact_pipeline().apply(model, testing.example_context())
    before = model.clone()
    assert ConvertBfloat16().run(model, testing.example_context()) == 1
    assert testing.to_lines(model) == "\n".join(
        [
            "x_stored = Cast<to=16>(x)",
            "w = DequantizeLinear<axis=0, block_size=32>(stored, scales)",
            "x_decoded = Cast<to=1>(x_stored)",
            "w_rounded = Cast<to=16>(w)",
            "w_decoded = Cast<to=1>(w_rounded)",
            "p = MatMul(x_decoded, w_decoded)",
            "y = Relu(p)",
        ]
    )
    exact_pipeline().apply(model, testing.example_context())
    assert [region.op for region in ir.regions(model.graph)] == ["Cast", "MatMul+Relu"]
    inputs = testing.example_inputs(before, 1)
    given, converted = (OnnxRuntime()(m, inputs) for m in (before, model))
    testing.assert_close(given, converted, testing.NARROW_TOLERANCE)
    assert ConvertBfloat16().run(model, testing.example_context()) == 0
