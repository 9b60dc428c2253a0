"""Strings are refused: no kernel computes with them."""

from __future__ import annotations

import onnx_ir

_OPERATORS = frozenset({"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"})
STRINGS = (
    "it computes with strings",
    "turn strings into numbers before the model, and back after it",
)
"""Why, and what to do about it."""

_STRING = onnx_ir.DataType.STRING


def has_strings(node: onnx_ir.Node) -> bool:
    """Say whether the node reads or gives strings."""
    if node.op_type in _OPERATORS and not node.domain:
        return True
    values = (*node.inputs, *node.outputs)
    return any(value is not None and value.dtype is _STRING for value in values)
