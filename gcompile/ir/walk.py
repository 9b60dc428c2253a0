"""Visit every node of a model, whichever scope it lives in."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def all_graphs(model: onnx_ir.Model) -> Iterator[onnx_ir.Graph]:
    """Yield the main graph and every subgraph, outermost first."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph:
            for attr in node.attributes.values():
                if attr.type is onnx_ir.AttributeType.GRAPH:
                    pending.append(attr.as_graph())
                elif attr.type is onnx_ir.AttributeType.GRAPHS:
                    pending.extend(attr.as_graphs())


def all_nodes(model: onnx_ir.Model) -> Iterator[onnx_ir.Node]:
    """Yield each node of each graph. Editing while iterating is safe."""
    for graph in all_graphs(model):
        yield from graph


def remove_unused(model: onnx_ir.Model) -> int:
    """Remove nodes and constants no output depends on; return how many nodes went."""
    before = sum(1 for _ in all_nodes(model))
    RemoveUnusedNodesPass()(model)
    for graph in all_graphs(model):
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
    return before - sum(1 for _ in all_nodes(model))
