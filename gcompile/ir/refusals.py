"""Nodes that nothing can compile, whatever the target: strings, and shapes that stay unknown."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir

from gcompile.errors import UnsupportedNode, UnsupportedOperatorsError
from gcompile.ir.bounded.operators import BOUNDED
from gcompile.ir.newer import NEWER
from gcompile.ir.place import place_of
from gcompile.ir.strings import STRINGS, has_strings
from gcompile.ir.unknown_shapes import NOT_COUNTED, reason_and_remedy
from gcompile.ir.walk import all_nodes

_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", NEWER, BOUNDED)


def refuse_nodes(model: onnx_ir.Model) -> None:
    """List every such node.

    Raises:
        UnsupportedOperatorsError: There are such nodes.
    """
    if found := refused_nodes(model):
        raise UnsupportedOperatorsError(found)


def refused_nodes(model: onnx_ir.Model) -> list[UnsupportedNode]:
    """Every node that computes with strings, and every one at which shapes begin to be unknown."""
    return list(_refused(model))


def refused_strings(model: onnx_ir.Model) -> list[UnsupportedNode]:
    """Every node that computes with strings; nothing else of the model needs to be known."""
    return [_unsupported(node, *STRINGS) for node in all_nodes(model) if has_strings(node)]


def _refused(model: onnx_ir.Model) -> Iterator[UnsupportedNode]:
    for node in all_nodes(model):
        if has_strings(node):
            yield _unsupported(node, *STRINGS)
        elif NOT_COUNTED in node.metadata_props or begins_unknown(node):
            yield _unsupported(node, *reason_and_remedy(node))


def begins_unknown(node: onnx_ir.Node) -> bool:
    """Say whether a shape is unknown after the node, and none is before it.

    What an operator of an unknown domain gives nobody knows: it is refused for what it is.
    """
    return (
        node.domain in _KNOWN_DOMAINS
        and any(value.name and not _is_known(value) for value in node.outputs)
        and all(value is None or _is_known(value) for value in node.inputs)
    )


def _is_known(value: onnx_ir.Value) -> bool:
    if value.const_value is not None:
        return True
    return value.shape is not None and value.shape.is_static()


def _unsupported(node: onnx_ir.Node, reason: str, remedy: str) -> UnsupportedNode:
    place = place_of([node])
    name = str(node.name or node.outputs[0].name)
    operator = f"{node.domain}.{node.op_type}" if node.domain not in ("", BOUNDED, NEWER) else (
        node.op_type)  # fmt: skip
    return UnsupportedNode(name, operator, reason, remedy, str(place) if place else "")
