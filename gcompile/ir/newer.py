"""Operators of opsets after ours that no converter can express in it.

They keep their name in a domain of their own, with the meaning that the newest opset gives them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from gcompile.ir.walk import all_nodes

NEWER = "gcompile.newer"
"""The domain of such operators."""

_OPERATORS = frozenset({"BitCast", "BitShift", "CumProd", "Mod", "TensorScatter"})


def keep_newer(model: onnx_ir.Model, since: dict[str, int], opset: int) -> int:
    """Move nodes whose operator changed after `opset` into the domain; return how many."""
    moved = 0
    for node in all_nodes(model):
        if node.domain or node.op_type not in _OPERATORS or since[node.op_type] <= opset:
            continue
        if _is_as_before(node):
            continue
        node.domain = NEWER
        moved += 1
    if moved:
        model.opset_imports[NEWER] = 1
    return moved


def _is_as_before(node: onnx_ir.Node) -> bool:
    """Types that the older operator takes, too."""
    value = node.inputs[0]
    kind = value.dtype.numpy().kind if value is not None and value.dtype is not None else "?"
    if node.op_type == "BitShift":
        return kind == "u"
    return node.op_type == "Mod" and (kind in "iu" or node.attributes.get_int("fmod", 0) == 1)


def infer_newer(graph: onnx_ir.Graph) -> bool:
    """Give the outputs of such nodes shape and type; return whether any was new."""
    learned = False
    for node in graph:
        if node.domain != NEWER:
            continue
        shapes = [value.shape for value in node.inputs if value is not None]
        if node.op_type in ("CumProd", "TensorScatter", "BitCast"):
            shapes = shapes[:1]
        first, value = node.inputs[0], node.outputs[0]
        if first is None or any(s is None or not s.is_static() for s in shapes):
            continue
        shape = onnx_ir.Shape(np.broadcast_shapes(*(tuple(s.numpy()) for s in shapes if s)))
        dtype = onnx_ir.DataType(node.attributes.get_int("to", int(first.dtype or 1)))
        learned |= value.shape != shape
        value.shape, value.type = shape, onnx_ir.TensorType(dtype)
    return learned
