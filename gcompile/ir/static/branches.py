"""Put the branch that an If takes in its place."""

from __future__ import annotations

import onnx_ir

from gcompile.ir.static.inline import hand_over, move_constants, remove
from gcompile.ir.static.known import known_array


def inline_branch(node: onnx_ir.Node, condition: bool) -> list[onnx_ir.Node]:
    """Replace an If by the nodes of one branch; return the copies made for the model's outputs.

    The branch is taken apart: nothing else may use it.
    """
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
    results = list(branch.outputs)
    branch.outputs.clear()
    move_constants(branch, graph)
    _move_nodes(branch, graph, node)
    copies = [hand_over(node, v, r) for v, r in zip(node.outputs, results, strict=True)]
    remove(node)
    return [copy for copy in copies if copy is not None]


def inline_known_branches(graph: onnx_ir.Graph, opset: int) -> None:
    """Inline every If whose condition is known, in place, and those in the branches it took."""
    known = True
    while known:
        known = False
        for node in [node for node in graph if node.op_type == "If" and not node.domain]:
            condition = known_array(node.inputs[0], opset)
            if condition is not None:
                inline_branch(node, bool(condition.reshape(-1)[0]))
                known = True


def _move_nodes(branch: onnx_ir.Graph, graph: onnx_ir.Graph, before: onnx_ir.Node) -> None:
    nodes = list(branch)
    branch.remove(nodes)
    for moved in nodes:
        for value in moved.outputs:
            # Both branches may use the same names; node names are unique over all scopes.
            if value.name:
                value.name = f"{before.name}::{value.name}"
    graph.insert_before(before, nodes)
