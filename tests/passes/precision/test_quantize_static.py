from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime, Optimization
from gcompile.errors import PassError, UsageError
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.precision import QuantizeStatic, RangeMethod, WeightRange
from tests.passes.example_models import HEADER
from tests.passes.precision.models import (
    CONV_CHAIN,
    context,
    fused,
    rows_for,
    signal_to_noise_db,
)

PLAIN = QuantizeStatic(bias_correction=False)


def test_a_convolution_reads_bytes_and_writes_bytes() -> None:
    model = fused("""
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,3,3] w, float[2,2,1,1] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            r = Relu(c)
            y = Conv(r, v)
        }""")
    assert PLAIN.run(model, context(model)) == 2
    assert testing.to_lines(model) == "\n".join(
        [
            "x_stored = QuantizeLinear(x, x_scale, x_zero_point)",
            "x_decoded = DequantizeLinear(x_stored, x_scale, x_zero_point)",
            "w_decoded = DequantizeLinear<axis=0>(w_stored, w_scale, w_zero_point)",
            "c = Conv<pads=[1, 1, 1, 1]>(x_decoded, w_decoded)",
            "r = Relu(c)",
            "r_stored = QuantizeLinear(r, r_scale, r_zero_point)",
            "r_decoded = DequantizeLinear(r_stored, r_scale, r_zero_point)",
            "v_decoded = DequantizeLinear<axis=0>(v_stored, v_scale, v_zero_point)",
            "y = Conv(r_decoded, v_decoded)",
        ]
    )
    assert [(r.op, r.precision) for r in ir.regions(model.graph)] == [
        ("QuantizeLinear", ir.Precision.FP32),
        ("Conv+Relu+QuantizeLinear", ir.Precision.INT8),
        ("Conv", ir.Precision.INT8),
    ]


def test_every_region_of_a_network_moves_bytes_and_the_output_stays_float() -> None:
    model = fused(CONV_CHAIN)
    assert PLAIN.run(model, context(model)) == 4
    ir.verify(model)
    testing.check_regions(model)
    found = {r.op: [v.dtype for v in r.outputs] for r in ir.regions(model.graph)}
    stored = [ir.DataType.UINT8]
    assert found == {
        "QuantizeLinear": stored,
        "Conv+Relu+QuantizeLinear": stored,
        "Conv+Add+Relu+QuantizeLinear": stored,
        "MaxPool+QuantizeLinear": stored,
        "GlobalAveragePool+QuantizeLinear": stored,
        "Flatten+QuantizeLinear": stored,
        "MatMul": [ir.DataType.FLOAT],
    }


def test_input_and_output_of_a_move_share_one_scale() -> None:
    model = fused(CONV_CHAIN)
    PLAIN.run(model, context(model))
    scales = {
        str(node.inputs[0].name): ir.constant_array(node.inputs[1])
        for node in model.graph
        if node.op_type == "QuantizeLinear" and node.inputs[0] is not None
    }
    assert scales["p2"] == scales["r2"]
    assert scales["f3"] == scales["m3"]
    assert scales["r2"] != scales["m3"]


@pytest.mark.parametrize("method", RangeMethod)
@pytest.mark.parametrize("weights", WeightRange)
def test_outputs_stay_close(method: RangeMethod, weights: WeightRange) -> None:
    model = fused(CONV_CHAIN, spread=30.0)
    narrow = model.clone()
    options = QuantizeStatic(calibration=method, weights=weights, percentile=99.99)
    options.run(narrow, context(model, rows=64))
    rows = rows_for(model, 32, seed=9)
    want, got = OnnxRuntime()(model, rows)["y"], OnnxRuntime()(narrow, rows)["y"]
    clips_most_rows = method is RangeMethod.MEAN_MINMAX
    assert signal_to_noise_db(want, got) > (15 if clips_most_rows else 25)


def test_integer_kernels_of_onnx_runtime_agree_with_the_graph_as_written() -> None:
    model = fused(CONV_CHAIN)
    QuantizeStatic().run(model, context(model))
    rows = rows_for(model, 16, seed=3)
    want = OnnxRuntime(optimization=Optimization.NONE)(model, rows)["y"]
    got = OnnxRuntime(optimization=Optimization.ALL)(model, rows)["y"]
    assert signal_to_noise_db(want, got) > 30


def test_only_the_regions_named_change_and_float_readers_keep_the_float_value() -> None:
    model = fused(CONV_CHAIN)
    second = [r.name for r in ir.regions(model.graph) if r.op == "Conv+Add+Relu"]
    narrow = model.clone()
    options = replace(PLAIN, regions=tuple(second))
    assert options.run(narrow, context(model)) == 1
    precisions = {r.name: r.precision for r in ir.regions(narrow.graph) if r.anchor is not None}
    assert [name for name, p in precisions.items() if p is ir.Precision.INT8] == second
    last = [r for r in ir.regions(narrow.graph) if r.op == "MaxPool"]
    assert last[0].precision is ir.Precision.FP32


def test_a_value_another_float_product_reads_is_stored_both_ways() -> None:
    model = fused("""
        g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <float[2,2,3,3] w, float[2,2,1,1] v, float[2,2,1,1] u> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            r = Relu(c)
            y = Conv(r, v)
            z = Conv(r, u)
        }""")
    names = [r.name for r in ir.regions(model.graph)]
    replace(PLAIN, regions=(names[1],)).run(model, context(model))
    assert [(r.op, r.precision) for r in ir.regions(model.graph)] == [
        ("Conv+Relu", ir.Precision.FP32),
        ("QuantizeLinear", ir.Precision.FP32),
        ("Conv", ir.Precision.INT8),
        ("Conv", ir.Precision.FP32),
    ]


def test_a_graph_output_that_a_product_reads_stays_float() -> None:
    model = fused("""
        g (float[1,2,4,4] x) => (float[1,2,4,4] r, float[1,2,4,4] y)
        <float[2,2,1,1] w, float[2,2,1,1] v> {
            c = Conv(x, w)
            r = Relu(c)
            y = Conv(r, v)
        }""")
    PLAIN.run(model, context(model))
    testing.check_regions(model)
    assert [v.name for v in model.graph.outputs] == ["r", "y"]
    assert all(v.dtype is ir.DataType.FLOAT for v in model.graph.outputs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "g (float[3,2] a, float[3,4] b) => (float[2,4] y) { y = Gemm<transA = 1>(a, b) }",
            "the rows of an operand's matrices are not contiguous",
        ),
        (
            """g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {1, 2, 3, 4}>
            { y = ConvTranspose(x, w) }""",
            "transposed convolutions have no narrow kernel",
        ),
        (
            """g (float[1,1,2,2,2] x) => (float[1,1,2,2,2] y) <float[1,1,1,1,1] w = {2}>
            { y = Conv(x, w) }""",
            "it is a convolution of three or more spatial dimensions",
        ),
        (
            """g (float[1,4,2,2] x) => (float[1,4,2,2] y) <float[4,2,1,1] w = {1,2,3,4,5,6,7,8}>
            { y = Conv<group = 2>(x, w) }""",
            "units multiply 4 inputs at a time, and its groups have 2",
        ),
        (
            """g (float16[1,2] x) => (float16[1,2] y) <float16[2,2] w = {1, 2, 3, 4}>
            { y = MatMul(x, w) }""",
            "it computes in fp16: run widen-float16 before",
        ),
    ],
)
def test_regions_that_cannot_are_left_alone_with_a_reason(text: str, reason: str) -> None:
    model = ir.parse(HEADER + text)
    before, ctx = testing.to_lines(model), context(model)
    record = PLAIN.apply(model, replace(ctx, calibration=None))
    assert (record.changed, dict(record.skipped)) == (0, {reason: 1})
    assert testing.to_lines(model) == before


def test_groups_are_quantized_like_any_convolution() -> None:
    model = ir.parse(
        HEADER
        + """g (float[1,8,2,2] x) => (float[1,2,2,2] y) <float[2,4,1,1] w = {1,2,3,4,5,6,7,8}>
        { y = Conv<group = 2>(x, w) }"""
    )
    fuse_pipeline().apply(model, testing.example_context())
    assert PLAIN.run(model, context(model)) == 1
    (region,) = [r for r in ir.regions(model.graph) if r.anchor is not None]
    assert region.precision is ir.Precision.INT8


def test_a_second_run_finds_everything_quantized() -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    PLAIN.apply(model, ctx)
    record = PLAIN.apply(model, ctx)
    assert record.changed == 0
    assert dict(record.skipped) == {"its weight is stored narrow already": 4}


def test_without_calibration_rows_it_says_how_to_give_some() -> None:
    model = fused(CONV_CHAIN)
    with pytest.raises(PassError, match=r"needs calibration rows.*--calib"):
        PLAIN.run(model, replace(context(model), calibration=None))


def test_a_row_with_infinity_is_refused_by_name() -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    assert ctx.calibration is not None
    rows = {"x": np.array(ctx.calibration["x"])}
    rows["x"][7, 0, 0, 0] = np.inf
    with pytest.raises(UsageError, match=r"'x' of the calibration rows .* in row 7"):
        PLAIN.run(model, replace(ctx, calibration=rows))


def test_a_region_that_does_not_exist_is_refused_by_name() -> None:
    model = fused(CONV_CHAIN)
    with pytest.raises(UsageError, match="regions the model does not have: nowhere"):
        replace(PLAIN, regions=("nowhere",)).run(model, context(model))


@pytest.mark.parametrize("options", [{"bits": 4}, {"percentile": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        QuantizeStatic(**options)  # type: ignore[arg-type]


def test_the_same_rows_give_the_same_model() -> None:
    model = fused(CONV_CHAIN)
    protos = []
    for _ in range(2):
        copy = model.clone()
        QuantizeStatic(calibration=RangeMethod.MSE).run(copy, context(model))
        protos.append(ir.to_proto(copy).SerializeToString(deterministic=True))
    assert protos[0] == protos[1]
