"""Put the nodes of a subgraph in the place of the node that owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir


@dataclass(frozen=True)
class Round:
    """A copy of a subgraph that reads values of the graph around it, in no graph yet."""

    graph: onnx_ir.Graph
    results: list[onnx_ir.Value]


def copied(body: onnx_ir.Graph, arguments: Sequence[onnx_ir.Value | None], prefix: str) -> Round:
    """Copy a subgraph whose inputs are `arguments`; every name in it begins with `prefix`."""
    graph = body.clone(allow_outer_scope_values=True)
    results = list(graph.outputs)
    graph.outputs.clear()
    given = dict(zip(graph.inputs, arguments, strict=True))
    for value, argument in given.items():
        if argument is not None:
            value.replace_all_uses_with(argument)
    _rename(graph, prefix)
    return Round(graph, [given.get(value) or value for value in results])


def insert(made: Round, before: onnx_ir.Node) -> None:
    """Move the nodes and constants of the copy before a node."""
    graph = before.graph
    assert graph is not None
    move_constants(made.graph, graph)
    nodes = list(made.graph)
    made.graph.remove(nodes)
    for node in nodes:
        node.metadata_props.update(
            {k: v for k, v in before.metadata_props.items() if k not in node.metadata_props}
        )
    graph.insert_before(before, nodes)


def move_constants(inner: onnx_ir.Graph, outer: onnx_ir.Graph | onnx_ir.Function) -> None:
    """Let the outer graph own the constants of the inner one."""
    assert isinstance(outer, onnx_ir.Graph)
    for name, value in list(inner.initializers.items()):
        if value.const_value is not None:
            del inner.initializers[name]
            unique = name
            while unique in outer.initializers:
                unique += "_"
            value.name = unique
            outer.register_initializer(value)


def hand_over(
    node: onnx_ir.Node, value: onnx_ir.Value, result: onnx_ir.Value
) -> onnx_ir.Node | None:
    """Let readers of a node's output read another value; the model's outputs keep their names.

    Returns:
        The Identity that has the name of the output, where one had to be made.
    """
    if not value.is_graph_output():
        value.replace_all_uses_with(result)
        return None
    producer, copy = result.producer(), None
    if producer is None or producer.graph is not node.graph or result.is_graph_output():
        copy = onnx_ir.Node("", "Identity", [result], name=f"{node.name}::{value.name}")
        copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
        copy.metadata_props.update(node.metadata_props)
        node.prepend(copy)
        result = copy.outputs[0]
    kept = value.name
    value.name = f"{kept}::before"
    value.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = kept
    return copy


def remove(node: onnx_ir.Node) -> None:
    """Remove a node whose outputs nobody reads, and let what its subgraphs read forget them."""
    for attribute in node.attributes.values():
        if attribute.type is onnx_ir.AttributeType.GRAPH:
            release(attribute.as_graph())
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def release(graph: onnx_ir.Graph) -> None:
    """Let the nodes of a graph that is dropped read nothing: values count their readers."""
    graph.outputs.clear()
    for node in graph.all_nodes():
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)


def _rename(graph: onnx_ir.Graph, prefix: str) -> None:
    for value in list(graph.initializers.values()):
        del graph.initializers[str(value.name)]
        value.name = f"{prefix}{value.name}"
        graph.register_initializer(value)
    for node in graph:
        node.name = f"{prefix}{node.name}"
        for value in node.outputs:
            if value.name:
                value.name = f"{prefix}{value.name}"
        for attribute in node.attributes.values():
            if attribute.type is onnx_ir.AttributeType.GRAPH:
                _rename(attribute.as_graph(), prefix)
