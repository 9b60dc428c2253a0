"""The rules a model obeys between passes."""

from __future__ import annotations

import onnx_ir

from gcompile.errors import InvalidModelError


def verify(model: onnx_ir.Model) -> None:
    """Check that values come before their readers and that names are unique.

    Raises:
        InvalidModelError: Naming the node or value that breaks a rule.
    """
    node_names: set[str] = set()
    _verify_scope(model.graph, set(), node_names)


def _verify_scope(graph: onnx_ir.Graph, outer: set[onnx_ir.Value], node_names: set[str]) -> None:
    visible = outer | set(graph.inputs) | set(graph.initializers.values())
    names = {value.name for value in graph.inputs} | set(graph.initializers)

    for node in graph:
        if not node.name or node.name in node_names:
            raise InvalidModelError(f"Node name {node.name!r} is missing or used twice.")
        node_names.add(node.name)
        for value in node.inputs:
            if value is not None and value not in visible:
                raise InvalidModelError(
                    f"Node {node.name!r} reads {value.name!r} before it exists."
                )
        for attr in node.attributes.values():
            if attr.type is onnx_ir.AttributeType.GRAPH:
                _verify_scope(attr.as_graph(), visible, node_names)
        for value in node.outputs:
            if value.name and value.name in names:
                raise InvalidModelError(f"Two values are called {value.name!r}.")
            names.add(value.name)
        visible.update(node.outputs)

    missing = [value.name for value in graph.outputs if value not in visible]
    if missing:
        raise InvalidModelError(f"Graph outputs are never produced: {missing}.")
