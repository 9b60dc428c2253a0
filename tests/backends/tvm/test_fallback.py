"""Regions of operators we do not emit ourselves give what onnxruntime gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tvm
from onnx import helper
from tvm import relax

from gcompile.backends.tvm.fallback import add_fallback, refusal, supported_operators
from gcompile.backends.tvm.kernels import elementwise
from gcompile.backends.tvm.kernels.spec import (
    Binary,
    Constant,
    ElementwiseKernel,
    Image,
    Load,
    Output,
    Source,
)
from gcompile.backends.tvm.pipeline import build_module
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import target
from tests.backends.tvm.regions import calling, parse, random_inputs, reference, run_region

REGIONS = {
    "softmax": "g (float[4,33,64] x) => (float[4,33,64] y) { y = Softmax(x) }",
    "softmax over rows": "g (float[4,33] x) => (float[4,33] y) { y = Softmax<axis = 0>(x) }",
    "log softmax": "g (float[9,50] x) => (float[9,50] y) { y = LogSoftmax(x) }",
    "layer norm": """g (float[5,48] x, float[48] s, float[48] b) => (float[5,48] y)
        { y = LayerNormalization<epsilon = 0.00001>(x, s, b) }""",
    "sum of the last axis": """g (float[7,96] x) => (float[7] y) <int64[1] axes = {1}>
        { y = ReduceSum<keepdims = 0>(x, axes) }""",
    "sum of the first axis": """g (float[70,96] x) => (float[96] y) <int64[1] axes = {0}>
        { y = ReduceSum<keepdims = 0>(x, axes) }""",
    "sum of everything": """g (float[8,16] x) => (float y) <int64[2] axes = {0, 1}>
        { y = ReduceSum<keepdims = 0>(x, axes) }""",
    "mean of pixels": """g (float[2,5,16,8] x) => (float[2,5,1,1] y) <int64[2] axes = {2, 3}>
        { y = ReduceMean(x, axes) }""",
    "odd mean": """g (float[2,3,7,7] x) => (float[2,3] y) <int64[2] axes = {2, 3}>
        { y = ReduceMean<keepdims = 0>(x, axes) }""",
    "largest": """g (float[6,100] x) => (float[6,1] y) <int64[1] axes = {1}>
        { y = ReduceMax(x, axes) }""",
    "gather": "g (float[9,5] x, int64[3] i) => (float[3,5] y) { y = Gather(x, i) }",
    "slice": """g (float[9,8] x) => (float[3,8] y)
        <int64[1] from = {1}, int64[1] to = {7}, int64[1] axes = {0}, int64[1] step = {2}>
        { y = Slice(x, from, to, axes, step) }""",
    "concat": "g (float[2,3] x, float[2,5] z) => (float[2,8] y) { y = Concat<axis = 1>(x, z) }",
    "pad": """g (float[2,3] x) => (float[3,7] y) <int64[4] pads = {1, 2, 0, 2}, float v = {1.5}>
        { y = Pad(x, pads, v) }""",
    "transpose": """g (float[2,3,4,5] x) => (float[2,4,5,3] y)
        { y = Transpose<perm = [0, 2, 3, 1]>(x) }""",
    "split": """g (float[2,8,16] x) => (float[2,3,16] a, float[2,5,16] b)
        <int64[2] sizes = {3, 5}> { a, b = Split<axis = 1>(x, sizes) }""",
    "powers": """g (float[3,20] x) => (float[3,20] y) <float two = {2.0}, float half = {0.5}>
        { a = Pow(x, two) b = Pow(a, half) c = Sqrt(a) y = Add(b, c) }""",
    "any power": """g (float[3,20] x, float[3,20] e) => (float[3,20] y)
        { a = Abs(x) y = Pow(a, e) }""",
    "where": "g (bool[4,4] c, float[4,4] x, float[4] z) => (float[4,4] y) { y = Where(c, x, z) }",
    "cast": "g (float[4,4] x) => (int32[4,4] y) { y = Cast<to = 6>(x) }",
    "resize": """g (float[1,2,4,4] x) => (float[1,2,8,8] y)
        <float[4] scales = {1.0, 1.0, 2.0, 2.0}>
        { y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",
                     nearest_mode = "floor">(x, , scales) }""",
    "largest index": """g (float[6,10] x) => (int64[6] y)
        { y = ArgMax<axis = 1, keepdims = 0>(x) }""",
    "top k": """g (float[4,9] x) => (float[4,3] y, int64[4,3] i) <int64[1] k = {3}>
        { y, i = TopK(x, k) }""",
    "activations": """g (float[7,40] x) => (float[7,40] y)
        { a = Gelu(x) b = Tanh(a) c = Sigmoid(b) d = Erf(c) e = Softplus(d) f = Exp(e)
          y = Log(f) }""",
    "half precision": """g (float16[6,32] x) => (float16[6,32] y)
        { a = Tanh(x) b = Mul(a, x) y = Softmax(b) }""",
    "scalars": "g (float x, float[3] z) => (float[3] y) { y = Mul(x, z) }",
    "shapes": "g (float[2,3] x) => (int64[2] s, float[2,3] y) { s = Shape(x) y = Relu(x) }",
    "matrix product": "g (float[3,5,7] x, float[3,7,4] z) => (float[3,5,4] y) { y = MatMul(x,z) }",
    "batch norm": """g (float[2,4,3,3] x) => (float[2,4,3,3] y)
        <float[4] s = {1.0, 2.0, 0.5, 1.0}, float[4] b = {0.0, 1.0, 2.0, 0.5},
         float[4] m = {0.1, 0.2, 0.3, 0.4}, float[4] v = {1.0, 0.5, 2.0, 1.0}>
        { y = BatchNormalization(x, s, b, m, v) }""",
    "nothing": "g (float[2,3] x) => (float[2,3] y) { y = Identity(x) }",
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", REGIONS)
def test_a_region_gives_what_onnxruntime_gives(name: str, threads: int) -> None:
    proto = parse(REGIONS[name])
    inputs = random_inputs(proto)
    outputs, expected = run_region(proto, inputs, threads), reference(proto, inputs)
    assert len(outputs) == len(expected)
    tolerance = 2e-3 if name == "half precision" else 1e-5
    for actual, wanted in zip(outputs, expected, strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance, strict=True)


def test_extreme_logits_saturate() -> None:
    proto = parse("g (float[2,4] x) => (float[2,4] y) { y = Softmax(x) }")
    x = np.array([[1e4, -1e4, 0, 1e4], [-3e38, 3e38, 0, -1]], "float32")
    (actual,) = run_region(proto, [x])
    expected = np.array([[0.5, 0, 0, 0.5], [0, 1, 0, 0]])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_nan_stays_nan() -> None:
    proto = parse("g (float[2,8] x) => (float[2,8] y) { a = Sigmoid(x) y = Softmax(a) }")
    x = np.zeros((2, 8), "float32")
    x[0, 3] = np.nan
    (actual,) = run_region(proto, [x])
    assert np.isnan(actual[0]).all()
    assert not np.isnan(actual[1]).any()


def test_a_region_becomes_a_private_function_that_is_inlined() -> None:
    module = calling(parse(REGIONS["softmax"]))
    assert "global_symbol" not in module["region"].attrs
    inlined = relax.transform.InlinePrivateFunctions()(module)
    assert [variable.name_hint for variable in inlined.get_global_vars()] == ["main"]


def test_two_regions_of_one_name_stay_apart() -> None:
    builder = relax.BlockBuilder()
    names = {
        add_fallback(builder, parse(REGIONS[name]), "region").name_hint
        for name in ("softmax", "transpose")
    }
    assert len(names) == 2


def test_functions_of_the_importer_come_along() -> None:
    text = """g (float[1,1,4,4] x, float[1,2,2,2] grid) => (float[1,1,2,2] y)
        { y = GridSample<align_corners = 1>(x, grid) }"""
    proto = parse(text)
    inputs = random_inputs(proto)
    np.testing.assert_allclose(
        run_region(proto, inputs)[0], reference(proto, inputs)[0], rtol=1e-5, atol=1e-5
    )


def test_what_the_importer_prints_stays_off_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    proto = parse("g (float[2,3] x, float16[3] e) => (float[2,3] y) { y = Pow(x, e) }")
    with pytest.raises(CompileError, match="Pow"):
        add_fallback(relax.BlockBuilder(), proto, "region")
    assert capsys.readouterr().out == ""


def test_what_the_importer_does_not_know_is_an_error_that_names_it() -> None:
    proto = parse("g (float[2,3] x) => (float[2,3] y) { y = Celu(x) }")
    with pytest.raises(CompileError, match="operators Celu of region"):
        add_fallback(relax.BlockBuilder(), proto, "region")


def test_operators_that_are_missing_or_wrong_are_not_offered() -> None:
    offered = supported_operators()
    assert {"Softmax", "Gather", "Resize", "TopK", "LayerNormalization", "Split"} <= offered
    wrong = {"LSTM", "Loop", "SpaceToDepth", "NonZero", "Attention", "FastGelu", "SequenceAt"}
    assert not wrong & offered


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (helper.make_node("LSTM", ["x"], ["y"]), "does not know"),
        (helper.make_node("Softmax", ["x"], ["y"], domain="com.example"), "does not know"),
        (helper.make_node("LayerNormalization", ["x", "s"], ["y", "m"]), "first output"),
        (helper.make_node("Dropout", ["x"], ["y", "mask"]), "first output"),
        (helper.make_node("Mod", ["x", "z"], ["y"], fmod=1), "fmod"),
        (helper.make_node("IsInf", ["x"], ["y"], detect_negative=0), "infinity"),
        (helper.make_node("Resize", ["x", "", "s"], ["y"], antialias=1), "antialias"),
        (helper.make_node("Resize", ["x", "", "s"], ["y"], axes=[2, 3]), "axes"),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], output_shape=[9, 9]),
            "output_shape",
        ),
        (helper.make_node("RMSNormalization", ["x", "s"], ["y"], axis=0), "every axis"),
        (helper.make_node("NonZero", ["x"], ["y"]), "depends on values"),
    ],
)
def test_nodes_that_would_come_out_wrong_are_refused(node: onnx.NodeProto, reason: str) -> None:
    assert reason in (refusal(node) or "")


def test_nodes_that_come_out_right_are_not_refused() -> None:
    for node in (
        helper.make_node("Softmax", ["x"], ["y"], axis=-1),
        helper.make_node("Dropout", ["x"], ["y"]),
        helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest"),
        helper.make_node("LayerNormalization", ["x", "s"], ["y"]),
    ):
        assert refusal(node) is None


def test_emitted_functions_pass_through_untouched() -> None:
    image = Image(1, 1, 1, 4)
    add_one = elementwise.emit(
        ElementwiseKernel(
            output=Output(image),
            expression=Binary("add", Load(0), Constant(1.0)),
            sources=(Source(image),),
        ),
        "add_one",
    )
    stored = relax.TensorType(image.shape, "float32")
    builder, x = relax.BlockBuilder(), relax.Var("x", stored)
    kernel = builder.add_func(add_one, "add_one")
    text = "g (float[1,1,1,4] x) => (float[1,1,1,4] y) { y = Neg(x) }"
    region = add_fallback(builder, parse(text), "region")
    with builder.function("main", [x]):
        with builder.dataflow():
            middle = builder.emit(relax.call_tir(kernel, [x], stored))
            last = builder.emit_output(builder.emit(relax.Call(region, [middle])))
        builder.emit_func_output(last)
    executable = build_module(builder.get(), target(), 2).executable
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    actual = main(tvm.runtime.tensor(np.arange(4, dtype="float32").reshape(1, 1, 1, 4))).numpy()
    np.testing.assert_array_equal(actual.ravel(), [-1, -2, -3, -4])
