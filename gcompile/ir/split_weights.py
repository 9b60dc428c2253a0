"""Take the weights out of a model's protobuf: serializing them costs more than many a run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

_INLINE_BYTES = 1024
"""Shapes, axes and other small constants stay: runtimes read them while they open a model."""

_PLAIN = {
    onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16,
    onnx_ir.DataType.DOUBLE, onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8,
    onnx_ir.DataType.INT32, onnx_ir.DataType.INT64,
}  # fmt: skip


def split_weights(
    model: onnx_ir.Model,
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.generic]]]:
    """Convert to protobuf with large weights of the main graph declared but absent.

    Returns:
        The model without unused constants, and those weights by name; weights in a file are
        mapped, not read.
    """
    skeleton = model.clone()
    weights: dict[str, NDArray[np.generic]] = {}
    for graph in skeleton.graphs():
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None:
                continue
            if not value.uses() and not value.is_graph_output():
                del graph.initializers[name]  # A runtime drops it, and does not know it then.
                continue
            is_large = tensor.nbytes > _INLINE_BYTES and tensor.dtype in _PLAIN
            if graph is skeleton.graph and is_large:
                # A transposed view would be read as if its bytes lay in order.
                weights[name] = np.ascontiguousarray(tensor.numpy())
                value.const_value = _declared(name, tensor)
            elif isinstance(tensor, onnx_ir.ExternalTensor):
                value.const_value = onnx_ir.tensor(tensor.numpy(), tensor.dtype, name=name)
    return onnx_ir.to_proto(skeleton), weights


def _declared(name: str, tensor: onnx_ir.TensorProtocol) -> onnx_ir.ExternalTensor:
    sizes: list[int | onnx_ir.SymbolicDim] = [int(size) for size in tensor.shape.numpy()]
    return onnx_ir.ExternalTensor(
        "weights", 0, tensor.nbytes, tensor.dtype, shape=onnx_ir.Shape(sizes), name=name
    )
