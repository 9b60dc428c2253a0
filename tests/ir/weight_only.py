"""A product of floats with a weight that is stored as integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir

from gcompile import ir

_RANGES = {"int4": (-8, 8), "uint4": (0, 16), "int8": (-128, 128), "uint8": (0, 256)}


def weight_only(
    sizes: tuple[int, int, int],
    dtype: str,
    block: int = 0,
    *,
    zero_points: bool = False,
    is_gemm: bool = False,
    axis: int | None = None,
) -> ir.Model:
    """A product of (m, k, n) and its Relu; `block` 0 gives each output channel a scale."""
    m, k, n = sizes
    low, high = _RANGES[dtype]
    numpy_dtype = getattr(ml_dtypes, dtype) if dtype.endswith("4") else np.dtype(dtype)
    rng = np.random.default_rng(k)
    weight_shape = (n, k) if is_gemm else (k, n)
    depth_axis = 1 if is_gemm else 0
    axis = depth_axis if axis is None else axis
    blocks = [-(-s // block) if block and i == axis else s for i, s in enumerate(weight_shape)]
    shape = blocks if block else [n]
    draw = rng.integers
    scales = rng.uniform(0.5, 1.5, shape) / (high - low) / np.sqrt(k)
    arrays = [draw(low, high, weight_shape).astype(numpy_dtype), scales.astype(np.float32)]
    if zero_points:
        arrays.append(draw(low, high, shape).astype(numpy_dtype))
    names = ["stored", "scales", "zeros"][: len(arrays)]
    tensors = zip(names, arrays, strict=True)
    quantization = {"axis": axis, "block_size": block} if block else {"axis": 1 - depth_axis}
    node = onnx.helper.make_node
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", (m, k)), ("y", (m, n)))
    )
    product = node("Gemm" if is_gemm else "MatMul", ["x", "w"], ["p"])
    if is_gemm:
        product.attribute.append(onnx.helper.make_attribute("transB", 1))
        product.attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    graph = onnx.helper.make_graph(
        [node("DequantizeLinear", names, ["w"], **quantization), product,
         node("Relu", ["p"], ["y"])],
        "g", [x], [y],
        [onnx_ir.to_proto(onnx_ir.tensor(array, name=name)) for name, array in tensors],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", ir.OPSET)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ir.prepare(onnx_ir.from_proto(proto))
