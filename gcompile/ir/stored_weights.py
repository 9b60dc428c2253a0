"""Weights that stay integers in memory while their product is computed in floats."""

from __future__ import annotations

import onnx_ir

from gcompile.ir.constants import is_constant

_INTEGERS = frozenset(
    {
        onnx_ir.DataType.INT8,
        onnx_ir.DataType.UINT8,
        onnx_ir.DataType.INT4,
        onnx_ir.DataType.UINT4,
    }
)
_FLOAT = onnx_ir.DataType.FLOAT
_HALVES = (onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.FLOAT16)


def weight_decoder(node: onnx_ir.Node) -> onnx_ir.Node | None:
    """The DequantizeLinear that makes a matrix product's right operand of constant integers.

    A rounding of its result to bfloat16 or fp16, as two casts, is looked through.
    """
    if node.domain or node.op_type not in ("MatMul", "Gemm"):
        return None
    decoder = weight_path(node)[-1:]
    found = decoder[0] if decoder else None
    if found is None or found.op_type != "DequantizeLinear" or found.domain:
        return None
    constants = all(value is None or is_constant(value) for value in found.inputs)
    stored = found.inputs[0]
    return found if constants and stored is not None and stored.dtype in _INTEGERS else None


def weight_path(node: onnx_ir.Node) -> list[onnx_ir.Node]:
    """The conversions from a product's right operand back to what is stored, nearest first."""
    found: list[onnx_ir.Node] = []
    value = node.inputs[1]
    while value is not None and (producer := value.producer()) is not None:
        if producer.domain or producer.op_type not in ("Cast", "DequantizeLinear"):
            break
        found.append(producer)
        value = producer.inputs[0]
    types = [n.outputs[0].dtype for n in found[:-1]]
    is_rounding = types in ([], *([_FLOAT, half] for half in _HALVES))
    return found if is_rounding else []
