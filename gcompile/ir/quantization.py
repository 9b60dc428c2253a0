"""The numbers by which a tensor is quantized."""

from __future__ import annotations

import onnx_ir

from gcompile.ir.constants import constant_array


def quantization_of(node: onnx_ir.Node) -> tuple[float, int] | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear; None if not of a tensor."""
    scale = constant_array(node.inputs[1])
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    point = constant_array(zero)
    if scale is None or scale.size != 1 or (zero is not None and point is None):
        return None
    if point is not None and point.size != 1:
        return None
    return float(scale.reshape(())), int(point.reshape(())) if point is not None else 0
