"""The number formats a region can compute in."""

from __future__ import annotations

from enum import StrEnum

import onnx_ir


class Precision(StrEnum):
    """A number format, by its common name."""

    FP64 = "fp64"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT32 = "int32"
    INT8 = "int8"
    FP8 = "fp8"
    MXFP8 = "mxfp8"
    MXFP6 = "mxfp6"
    MXFP4 = "mxfp4"

    @property
    def bits(self) -> int:
        """Storage of one element, in bits; scales that blocks share are left out."""
        return _BITS[self]


_BITS = {
    Precision.FP64: 64,
    Precision.FP32: 32,
    Precision.FP16: 16,
    Precision.BF16: 16,
    Precision.INT32: 32,
    Precision.INT8: 8,
    Precision.FP8: 8,
    Precision.MXFP8: 8,
    Precision.MXFP6: 6,
    Precision.MXFP4: 4,
}


def decodes_storage(node: onnx_ir.Node) -> bool:
    """Say whether the node turns a stored format into the one that is computed in.

    These are DequantizeLinear, and Cast from bfloat16 or fp16 to fp32. Their stored input is what
    memory holds, so nothing may replace it by the decoded value. An fp16 input of the model is no
    storage that a pass chose.
    """
    if node.domain or node.op_type not in ("DequantizeLinear", "Cast"):
        return False
    if node.op_type == "DequantizeLinear":
        return True
    stored = node.inputs[0]
    if stored is None or node.outputs[0].dtype is not onnx_ir.DataType.FLOAT:
        return False
    if stored.dtype is onnx_ir.DataType.FLOAT16:
        return not stored.is_graph_input()
    return stored.dtype is onnx_ir.DataType.BFLOAT16
