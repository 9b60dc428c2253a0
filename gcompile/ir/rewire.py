"""Change who reads what, without changing what the model is called from outside."""

from __future__ import annotations

import onnx_ir


def bypass(node: onnx_ir.Node, source: onnx_ir.Value) -> str | None:
    """Let the readers of the node's first output read `source`, and remove the node.

    Returns:
        None when it is done, else why it cannot be: an output of a graph has to be produced by a
        node of that graph, under its own name, and only once.
    """
    copy, graph = node.outputs[0], node.graph
    if not isinstance(graph, onnx_ir.Graph):
        return "the node is not part of a graph"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its other outputs are read"
    if copy.is_graph_output():
        producer = source.producer()
        if producer is None or producer.graph is not graph:
            return "its output is a graph output and its input is not computed here"
        if source.is_graph_output():
            return "its input and its output are both graph outputs"
    name, is_output = copy.name, copy.is_graph_output()
    if source.shape is None:
        source.shape, source.type = copy.shape, copy.type
    copy.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if is_output:
        source.name = name
    return None


def only_reader(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """Return the one node that reads the value, when nothing else does: no output, no branch."""
    if value is None or value.is_graph_output():
        return None
    readers = value.consumers()
    producer = value.producer()
    if len(readers) != 1 or (producer is not None and readers[0].graph is not producer.graph):
        return None
    return readers[0]
