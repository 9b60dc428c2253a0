"""Small values that follow from the constants and shapes of a model."""

from __future__ import annotations

import math

import onnx_ir

from gcompile.ir.constants import Array, constant_array
from gcompile.ir.evaluate import compute_node, evaluate_node

_SMALL = 4096
"""Elements of a value that decides which nodes there are."""


def known_array(value: onnx_ir.Value | None, opset: int) -> Array | None:
    """The value's numbers where they are known before the model runs, else None."""
    return _known(value, opset, {})


def _known(
    value: onnx_ir.Value | None, opset: int, found: dict[onnx_ir.Value, Array | None]
) -> Array | None:
    if value is None or _is_large(value):
        return None
    if (array := constant_array(value)) is not None:
        return array
    if value not in found:
        node = value.producer()
        results = None if node is None else _computed(node, opset, found)
        index = value.index() if results is not None else None
        found[value] = None if results is None or index is None else results[index]
    return found[value]


def _computed(
    node: onnx_ir.Node, opset: int, found: dict[onnx_ir.Value, Array | None]
) -> list[Array] | None:
    if (results := evaluate_node(node, opset)) is not None:
        return results
    arrays = [_known(value, opset, found) for value in node.inputs]
    if any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)):
        return None
    return compute_node(node, arrays, opset)


def _is_large(value: onnx_ir.Value) -> bool:
    if value.const_value is not None:
        return value.const_value.size > _SMALL
    shape = value.shape
    return shape is not None and shape.is_static() and math.prod(shape.numpy()) > _SMALL
