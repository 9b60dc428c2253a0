"""What ONNX Runtime's optimizers and quantizers write is computed as ONNX Runtime computes it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import parser

from gcompile import ir
from gcompile.errors import InvalidModelError

HEADER = '<ir_version: 9, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
QUANTIZED = "float s = {0.02}, uint8 z = {120}, float t = {0.03}, uint8 u = {110}"

MODELS = {
    "Gelu": "g (float[2,8] x) => (float[2,8] y) { y = com.microsoft.Gelu(x) }",
    "FastGelu": """g (float[2,8] x) => (float[2,8] y, float[2,8] z) <float[8] b>
        { y = com.microsoft.FastGelu(x, b) z = com.microsoft.FastGelu(x) }""",
    "BiasGelu": """g (float[2,8] x) => (float[2,8] y) <float[8] b>
        { y = com.microsoft.BiasGelu(x, b) }""",
    "QuickGelu": """g (float[2,8] x) => (float[2,8] y)
        { y = com.microsoft.QuickGelu<alpha=1.5>(x) }""",
    "SkipLayerNormalization": """g (float[2,3,8] x, float[2,3,8] s) =>
        (float[2,3,8] y, float[2,3,8] t) <float[8] g, float[8] b, float[8] c>
        { y, m, d, t = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(x, s, g, b, c) }""",
    "SkipSimplifiedLayerNormalization": """g (float[2,3,8] x, float[2,3,8] s) => (float[2,3,8] y)
        <float[8] g> { y = com.microsoft.SkipSimplifiedLayerNormalization(x, s, g) }""",
    "SimplifiedLayerNormalization": """g (float[2,3,8] x) => (float[2,3,8] y) <float[8] g>
        { y = SimplifiedLayerNormalization<axis = -1, epsilon = 0.001>(x, g) }""",
    "EmbedLayerNormalization": """g (int32[2,4] i, int32[2,4] s, int32[2,4] m) =>
        (float[2,4,8] y, int32[2] n)
        <float[2,8] w, float[5,8] p, float[2,8] e, float[8] g, float[8] b>
        { y, n = com.microsoft.EmbedLayerNormalization<mask_index_type = 1>
                 (i, s, w, p, e, g, b, m) }""",
    "FusedMatMul": """g (float[2,8,3] x, float[2,5,8] w) => (float[2,3,5] y)
        { y = com.microsoft.FusedMatMul<alpha = 0.5, transA = 1, transB = 1>(x, w) }""",
    "FusedGemm": """g (float[3,8] x) => (float[3,5] y) <float[5,8] w, float[5] b>
        { y = com.microsoft.FusedGemm<transB = 1, activation = "LeakyRelu",
              activation_alpha = 0.25>(x, w, b) }""",
    "FusedConv": """g (float[1,2,6,6] x, float[1,3,6,6] r) => (float[1,3,6,6] y, float[1,3,4,4] z)
        <float[3,2,3,3] w, float[3] b> {
        y = com.microsoft.FusedConv<pads = [1, 1, 1, 1], activation = "Relu">(x, w, b, r)
        z = com.microsoft.FusedConv<activation = "Clip",
                                    activation_params = [-0.5, 0.5]>(x, w) }""",
    "MatMulIntegerToFloat": """g (uint8[3,8] x) => (float[3,5] y)
        <int8[8,5] w, float s = {0.1}, float[5] t = {0.1, 0.2, 0.3, 0.4, 0.5}, uint8 z = {7},
         float[5] b>
        { y = com.microsoft.MatMulIntegerToFloat(x, w, s, t, z, , b) }""",
    "DynamicQuantizeMatMul": """g (float[3,8] x) => (float[3,5] y)
        <int8[8,5] w, float s = {0.1}, float[5] b>
        { y = com.microsoft.DynamicQuantizeMatMul(x, w, s, , b) }""",
    "QGemm": f"""g (uint8[3,8] x) => (uint8[3,5] y, float[3,5] f)
        <{QUANTIZED}, uint8[5,8] w, int32[5] c = {{1000, -2000, 0, 50, 7}}, float v = {{2.5}}> {{
        y = com.microsoft.QGemm<transB = 1>(x, s, z, w, t, u, c, v, z)
        f = com.microsoft.QGemm<transB = 1>(x, s, z, w, t, u, c) }}""",
    "QLinearAdd": f"""g (uint8[2,3] a, uint8[2,3] b) => (uint8[2,3] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearAdd(a, s, z, b, t, u, t, z) }}""",
    "QLinearMul": f"""g (uint8[2,3] a, uint8[2,3] b) => (uint8[2,3] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearMul(a, s, z, b, t, u, t, z) }}""",
    "QLinearLeakyRelu": f"""g (uint8[2,3] x) => (uint8[2,3] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearLeakyRelu<alpha = 0.1>(x, s, z, t, u) }}""",
    "QLinearSigmoid": f"""g (uint8[2,3] x) => (uint8[2,3] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearSigmoid(x, s, z, t, u) }}""",
    "QLinearSoftmax": f"""g (uint8[2,3] x) => (uint8[2,3] y) <{QUANTIZED}, float v = {{0.0039}},
        uint8 o = {{0}}>
        {{ y = com.microsoft.QLinearSoftmax<axis = -1, opset = 13>(x, s, z, v, o) }}""",
    "QLinearAveragePool": f"""g (uint8[1,2,6,6] x, uint8[1,6,6,2] l) =>
        (uint8[1,2,3,3] y, uint8[1,3,3,2] n) <{QUANTIZED}> {{
        y = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>
            (x, s, z, t, u)
        n = com.microsoft.QLinearAveragePool<channels_last = 1, kernel_shape = [2, 2],
                                             strides = [2, 2]>(l, s, z, t, u) }}""",
    "QLinearGlobalAveragePool": f"""g (uint8[1,5,5,2] x) => (uint8[1,1,1,2] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(x, s, z, t, u) }}""",
    "QLinearConcat": f"""g (uint8[2,3] a, uint8[2,4] b) => (uint8[2,7] y) <{QUANTIZED}>
        {{ y = com.microsoft.QLinearConcat<axis = 1>(t, u, a, s, z, b, t, z) }}""",
    "Quantize": """g (float[2,3] x) => (float[2,3] y) <float s = {0.02}, uint8 z = {120}> {
        q = com.microsoft.QuantizeLinear(x, s, z)
        y = com.microsoft.DequantizeLinear(q, s, z) }""",
    "Attention": """g (float[2,5,8] x, int32[2,5] m) => (float[2,5,8] y)
        <float[8,24] w, float[24] b>
        { y = com.microsoft.Attention<num_heads = 2>(x, w, b, m) }""",
    "Attention, causal": """g (float[2,5,8] x) => (float[2,5,4] y)
        <float[8,20] w, float[20] b> { y = com.microsoft.Attention<num_heads = 2,
        unidirectional = 1, qkv_hidden_sizes = [8, 8, 4]>(x, w, b) }""",
    "Attention, lengths": """g (float[2,5,8] x) => (float[2,5,8] y)
        <float[8,24] w, float[24] b, int32[2] m = {3, 5}>
        { y = com.microsoft.Attention<num_heads = 2, scale = 0.3>(x, w, b, m) }""",
    "MultiHeadAttention": """g (float[2,3,8] q, float[2,5,8] k, float[2,5,8] v, int32[2,5] m,
        float[1,2,3,5] a) => (float[2,3,8] y) <float[24] b>
        { y = com.microsoft.MultiHeadAttention<num_heads = 2>(q, k, v, b, m, a) }""",
    "MultiHeadAttention, past": """g (float[2,3,8] q, float[2,3,8] k, float[2,3,8] v,
        float[2,2,4,4] p, float[2,2,4,4] c) => (float[2,3,8] y, float[2,2,7,4] n, float[2,2,7,4] o)
        { y, n, o = com.microsoft.MultiHeadAttention<num_heads = 2, unidirectional = 1>
                    (q, k, v, , , , p, c) }""",
    "RotaryEmbedding": """g (float[2,3,16] x, float[2,2,3,8] h) =>
        (float[2,3,16] y, float[2,2,3,8] z, float[2,3,16] w)
        <float[9,4] c, float[9,4] s, float[9,2] d, float[9,2] e, int64[1] o = {2},
         int64[2,3] p = {0, 3, 1, 5, 8, 2}> {
        y = com.microsoft.RotaryEmbedding(x, p, c, s)
        z = com.microsoft.RotaryEmbedding<interleaved = 1>(h, o, c, s)
        w = com.microsoft.RotaryEmbedding<num_heads = 2, rotary_embedding_dim = 4>
            (x, p, d, e) }""",
}  # fmt: skip


def read(text: str) -> onnx.ModelProto:
    """Parse; constants that the text gives no numbers are drawn."""
    proto = parser.parse_model(HEADER + text)
    rng = np.random.default_rng(0)
    for value in proto.graph.value_info:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [size.dim_value for size in tensor.shape.dim]
        array = draw(rng, dtype, shape)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del proto.graph.value_info[:]
    return proto


def draw(rng: np.random.Generator, dtype: np.dtype[np.generic], shape: list[int]) -> ir.Array:
    """Bytes of all sizes, indices and truth values of zero and one, and normal numbers."""
    if dtype.itemsize == 1:
        limits = np.iinfo(str(dtype))
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if dtype.kind == "i":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def run(proto: onnx.ModelProto, inputs: dict[str, ir.Array]) -> list[ir.Array]:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))


def check(proto: onnx.ModelProto) -> ir.Model:
    """Compare the model as given with the same written out."""
    model = ir.prepare(onnx_ir.from_proto(proto))
    assert all(node.domain == "" for node in ir.all_nodes(model))
    rng = np.random.default_rng(1)
    inputs = {
        str(value.name): draw(
            rng, (value.dtype or ir.DataType.FLOAT).numpy(), list(ir.static_shape(value))
        )
        for value in model.graph.inputs
    }
    found = run(onnx_ir.to_proto(model), inputs)
    for got, want in zip(found, run(proto, inputs), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        step = 1 if got.dtype == np.uint8 else 2e-5  # Halves may round either way.
        np.testing.assert_allclose(got.astype(float), want.astype(float), atol=step, rtol=1e-5)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_operators_are_written_out(name: str) -> None:
    check(read(MODELS[name]))


@pytest.mark.parametrize(("bits", "zeros"), [(4, True), (4, False), (8, True), (8, False)])
def test_weights_in_bits_are_those_of_blocks(bits: int, zeros: bool) -> None:
    """Their depth is no multiple of a block."""
    k, n, block = 50, 12, 16
    blocks = -(-k // block)
    rng = np.random.default_rng(2)
    packed = rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    arrays = {"w": packed, "s": rng.uniform(0.01, 0.1, n * blocks).astype(np.float32)}
    if zeros:
        arrays["z"] = rng.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", *arrays], ["y"], domain="com.microsoft",
        K=k, N=n, bits=bits, block_size=block,
    )  # fmt: skip
    graph = onnx.helper.make_graph(
        [node], "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, k])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, n])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = check(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9))
    stored = next(value for value in model.graph.initializers.values() if value.shape == [k, n])
    assert stored.dtype == (ir.DataType.INT4 if bits == 4 else ir.DataType.INT8)


def test_a_quantized_lstm_is_that_of_its_weights() -> None:
    """Activations are not rounded here, and are in ONNX Runtime: to a percent."""
    proto = read(
        """g (float[4,2,6] x) => (float[4,1,2,5] y)
        <int8[1,6,20] w, int8[1,5,20] r, float[1,40] b, float[1] s = {0.01}, float[1] t = {0.01},
         int8[1] z = {0}>
        { y = com.microsoft.DynamicQuantizeLSTM<hidden_size = 5>
              (x, w, r, b, , , , , s, z, t, z) }"""
    )
    model = ir.prepare(onnx_ir.from_proto(proto))
    x: ir.Array = np.random.default_rng(3).standard_normal((4, 2, 6)).astype(np.float32)
    inputs = {"x": x}
    (got,), (want,) = run(onnx_ir.to_proto(model), inputs), run(proto, inputs)
    np.testing.assert_allclose(got.astype(float), want.astype(float), atol=0.03)


@pytest.mark.parametrize(
    "text",
    [
        """g (float[2,3,8] x, float[2,3,8] s) => (float[2,3,8] y, float[2,3,1] m) <float[8] g>
        { y, m = com.microsoft.SkipLayerNormalization(x, s, g) }""",
        """g (float[1,3] x) => (float[1,3] y)
        { y = com.microsoft.FusedGemm<activation = "Softsign">(x, x) }""",
    ],
)
def test_what_a_rule_does_not_know_stays(text: str) -> None:
    model = ir.prepare(onnx_ir.from_proto(read(text)))
    with pytest.raises(InvalidModelError, match=r"no operator com\.microsoft\.\w+ of this form"):
        ir.static_shape(model.graph.outputs[0])
