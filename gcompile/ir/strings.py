"""Strings are refused: no kernel computes with them."""

from __future__ import annotations

import onnx_ir

from gcompile.errors import UnsupportedNode, UnsupportedOperatorsError
from gcompile.ir.walk import all_nodes

_OPERATORS = frozenset({"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"})
_STRING = onnx_ir.DataType.STRING


def refuse_strings(model: onnx_ir.Model) -> None:
    """List every node that reads or gives strings.

    Raises:
        UnsupportedOperatorsError: There are such nodes.
    """
    found = [node for node in all_nodes(model) if _has_strings(node)]
    if found:
        raise UnsupportedOperatorsError(
            UnsupportedNode(
                str(node.name or node.outputs[0].name),
                f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
                "it computes with strings",
                "turn strings into numbers before the model, and back after it",
            )
            for node in found
        )


def _has_strings(node: onnx_ir.Node) -> bool:
    if node.op_type in _OPERATORS and not node.domain:
        return True
    values = (*node.inputs, *node.outputs)
    return any(value is not None and value.dtype is _STRING for value in values)
