"""Operators without kernels are written out in others that compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gcompile import ir
from gcompile.testing import example_inputs

MODELS = {
    "OneHot": """g (int64[2,3] i) => (float[2,5,3] y)
        <int64 d = {5}, float[2] v = {0.5, 2.0}> { y = OneHot<axis = 1>(i, d, v) }""",
    "Compress": """g (float[3,4] x) => (float[3,2] y, float[3] z)
        <bool[4] c = {0, 1, 0, 1}, bool[8] f = {1, 0, 0, 0, 0, 1, 0, 1}>
        { y = Compress<axis = 1>(x, c) z = Compress(x, f) }""",
    "ReverseSequence": """g (float[4,3,2] x) => (float[4,3,2] y, float[4,3,2] z)
        <int64[3] s = {1, 4, 2}, int64[4] t = {3, 1, 2, 1}> {
        y = ReverseSequence<time_axis = 0, batch_axis = 1>(x, s)
        z = ReverseSequence<time_axis = 1, batch_axis = 0>(x, t) }""",
    "EyeLike": "g (int32[3,5] x) => (double[3,5] y) { y = EyeLike<dtype = 11, k = 1>(x) }",
    "LpNormalization": """g (float[3,4] x) => (float[3,4] y, float[3,4] z)
        { y = LpNormalization<axis = 0, p = 1>(x) z = LpNormalization(x) }""",
    "IsInf": """g (float[3] x) => (bool[3] y, bool[3] z) <float zero = {0.0}> {
        i = Div(x, zero)
        y = IsInf<detect_negative = 0>(i) z = IsInf<detect_positive = 0>(i) }""",
    "TopK": """g (int16[7] x) => (int16[3] y, int64[3] i)
        <int64[1] k = {3}> { y, i = TopK(x, k) }""",
    "DFT": """g (float[2,6,1] x, float[2,6,2] c) => (float[2,4,2] y, float[2,6,2] z)
        <int64 a = {1}> { y = DFT<onesided = 1>(x, , a) z = DFT<inverse = 1>(c, , a) }""",
    "STFT": """g (float[1,16,1] x) => (float[1,5,5,2] y)
        <int64 s = {2}, float[8] w = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}>
        { y = STFT(x, s, w) }""",
    "ConvTranspose": """g (float[1,2,3,4] x) => (float[1,3,6,9] y) <float[2,3,3,3] w>
        { y = ConvTranspose<strides = [2, 2], output_shape = [6, 9]>(x, w) }""",
    "ConvInteger": """g (uint8[1,2,5,5] x) => (int32[1,3,3,3] y)
        <uint8[3,2,3,3] w, uint8 z = {7}> { y = ConvInteger(x, w, z) }""",
    "ConvInteger of many channels": """g (uint8[1,60,5,5] x) => (int32[1,3,3,3] y)
        <uint8[3,60,3,3] w, uint8 z = {7}> { y = ConvInteger(x, w, z) }""",
    "QLinearMatMul": """g (uint8[2,3,4] x, float s) => (uint8[2,3,5] y)
        <uint8[4,5] w, float t = {0.02}, uint8 z = {113}>
        { y = QLinearMatMul(x, t, z, w, t, z, s, z) }""",
    "QuantizeLinear": """g (float[2,6] x) => (int8[2,6] y)
        <float[2,3] s = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, int8[2,3] z = {1, 2, 3, 4, 5, 6}>
        { y = QuantizeLinear<axis = 1, block_size = 2>(x, s, z) }""",
    "DequantizeLinear": """g (int8[2,6] x) => (float[2,6] y)
        <float[2,3] s = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, int8[2,3] z = {1, 2, 3, 4, 5, 6}>
        { y = DequantizeLinear<axis = 1, block_size = 2>(x, s, z) }""",
    "TfIdfVectorizer": """g (int64[2,6] x) => (float[2,7] y) { y = TfIdfVectorizer<
        mode = "TFIDF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 3,
        ngram_counts = [0, 4], ngram_indexes = [0, 1, 2, 3, 4, 5, 6],
        pool_int64s = [0, 1, 2, 3, 1, 2, 0, 1, 2, 2],
        weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]>(x) }""",
    "Binarizer": """g (float[2,3] x) => (float[2,3] y)
        { y = ai.onnx.ml.Binarizer<threshold = 0.2>(x) }""",
    "ArrayFeatureExtractor": """g (float[2,3] x) => (float[2,2] y) <int64[2] i = {2, 0}>
        { y = ai.onnx.ml.ArrayFeatureExtractor(x, i) }""",
}
SIMPLER = {"ConvTranspose", "IsInf", "TopK"}
"""Operators that become simpler ones of their kind."""

RESIZES = {
    "cubic": 'mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1',
    "antialiased": 'mode = "linear", antialias = 1',
    "antialiased cubic": 'mode = "cubic", antialias = 1',
    "cropped": """mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize",
        extrapolation_value = 9.0""",
}


def read(text: str, opset: int = 21) -> onnx.ModelProto:
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>\n'
    proto = parser.parse_model(header + text)
    rng = np.random.default_rng(0)
    for value in proto.graph.value_info:  # Those that the text gives no numbers.
        shape = [size.dim_value for size in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        array = (rng.random(shape) * (250 if dtype == np.uint8 else 1)).astype(dtype)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del proto.graph.value_info[:]
    return proto


def run(proto: onnx.ModelProto, inputs: Mapping[str, Any]) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, dict(inputs))


def check(proto: onnx.ModelProto, operator: str, tolerance: float = 1e-5) -> None:
    model = ir.prepare(onnx_ir.from_proto(proto))
    left = {node.op_type for node in model.graph} - SIMPLER
    assert operator not in left
    written = onnx_ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    inputs = example_inputs(model)
    for found, wanted in zip(run(written, inputs), run(proto, inputs), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("operator", MODELS)
def test_what_is_written_out_computes_the_same(operator: str) -> None:
    check(read(MODELS[operator]), operator)


@pytest.mark.parametrize("name", RESIZES)
@pytest.mark.parametrize("scales", [(0.6, 0.45), (2.3, 1.5)])
def test_images_are_resized_by_products(name: str, scales: tuple[float, float]) -> None:
    if name == "cropped":  # ONNX Runtime counts in whole outputs here, as ONNX's text does not.
        scales = (round(8 * scales[0]) / 8, 2.0)
    after = [int(8 * scales[0]), int(9 * scales[1])]
    proto = read(f"""g (float[1,2,8,9] x) => (float[1,2,{after[0]},{after[1]}] y)
        <float[4] scales = {{1.0, 1.0, {scales[0]}, {scales[1]}}},
         float[8] roi = {{0.0, 0.0, 0.2, -0.1, 1.0, 1.0, 0.8, 1.2}}>
        {{ y = Resize<{RESIZES[name]}>(x, roi, scales) }}""")
    check(proto, "Resize", 1e-4)


def test_the_aspect_ratio_of_an_image_is_kept() -> None:
    proto = read("""g (float[1,2,8,9] x) => (float[1,2,5,6] y) <int64[2] sizes = {7, 6}>
        { y = Resize<axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(x, , , sizes) }""")
    check(proto, "Resize")


def test_a_computed_number_is_put_around_a_tensor() -> None:
    text = """g (float[2,3] x, float v) => (float[4,4] y) <int64[4] p = {1, 0, 1, 1}>
        { y = Pad(x, p, v) }"""
    model = ir.prepare(onnx_ir.from_proto(read(text)))
    inputs = example_inputs(model)
    (found,) = run(onnx_ir.to_proto(model), inputs)
    wanted = np.pad(inputs["x"], ((1, 1), (0, 1)), constant_values=inputs["v"])
    np.testing.assert_array_equal(found, wanted)
    pads = [node for node in model.graph if node.op_type == "Pad"]
    assert all(len(node.inputs) < 3 or node.inputs[2] is None for node in pads)


@pytest.mark.parametrize("attributes", ["", "<exclusive = 1>", "<reverse = 1, exclusive = 1>"])
def test_running_products_of_newer_opsets(attributes: str) -> None:
    text = f"""g (float[3,4] x) => (float[3,4] y) <int64 a = {{1}}>
        {{ y = CumProd{attributes}(x, a) }}"""
    proto = read(text, 26)
    model = ir.prepare(onnx_ir.from_proto(proto))
    inputs = example_inputs(model)
    (wanted,) = ReferenceEvaluator(proto).run(None, inputs)
    np.testing.assert_allclose(run(onnx_ir.to_proto(model), inputs)[0], wanted, rtol=1e-6)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_rows_of_a_cache_are_written_in_newer_opsets(mode: str) -> None:
    proto = read(
        f"""g (float[2,3,4] c, float[2,2,4] u) => (float[2,3,4] y) <int64[2] i = {{1, 0}}>
        {{ y = TensorScatter<mode = "{mode}">(c, u, i) }}""",
        24,
    )
    model = ir.prepare(onnx_ir.from_proto(proto))
    inputs = example_inputs(model)
    (wanted,) = ReferenceEvaluator(proto).run(None, inputs)
    np.testing.assert_array_equal(run(onnx_ir.to_proto(model), inputs)[0], wanted)


def test_slopes_of_old_models_belong_to_channels() -> None:
    text = (
        "g (float[1,3,3] x) => (float[1,3,3] y) <float[3] s = {1.0, 2.0, 3.0}> { y = PRelu(x, s) }"
    )
    proto = parser.parse_model(f'<ir_version: 3, opset_import: ["" : 6]>\n{text}')
    model = ir.prepare(onnx_ir.from_proto(proto))
    x = -np.ones((1, 3, 3), np.float32)
    (found,) = run(onnx_ir.to_proto(model), {"x": x})
    np.testing.assert_array_equal(found[0, :, 0], [-1, -2, -3])


def test_very_many_tensors_are_put_together_in_groups() -> None:
    values = ", ".join(f"x{i}" for i in range(130))
    inputs = ", ".join(f"float[2,{i % 3}] x{i}" for i in range(130))
    text = f"g ({inputs}) => (float[2,129] y) {{ y = Concat<axis = 1>({values}) }}"
    model = ir.prepare(onnx_ir.from_proto(read(text)))
    assert max(len(node.inputs) for node in model.graph) <= 64
    arrays = example_inputs(model)
    wanted = np.concatenate([arrays[f"x{i}"] for i in range(130)], 1)
    np.testing.assert_array_equal(run(onnx_ir.to_proto(model), arrays)[0], wanted)
