"""Inline the branch of an If whose condition is known."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class InlineConstantIf(NodePass):
    """Inline the branch of an If whose condition is a constant."""

    name = "inline-constant-if"
    numerics = Numerics.EXACT
    ops = frozenset({"If"})

    def matches(self, node: ir.Node) -> bool:
        """The condition is known."""
        return ir.is_constant(node.inputs[0])

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Move the nodes of the branch before the If, and let its readers read them."""
        graph, condition = node.graph, ir.constant_array(node.inputs[0])
        if condition is None or not isinstance(graph, ir.Graph):
            return Skip("the node is not connected")
        taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        branch = node.attributes[taken].as_graph()
        results = list(branch.outputs)
        branch.outputs.clear()
        _move_constants(branch, graph)
        _move_nodes(branch, graph, node)
        for index, (value, result) in enumerate(zip(node.outputs, results, strict=True)):
            _hand_over(node, value, result, f"{node.name}::{index}")
        graph.remove(node, safe=True)
        return None


def _move_constants(branch: ir.Graph, graph: ir.Graph) -> None:
    for name, value in list(branch.initializers.items()):
        if value.const_value is not None:
            del branch.initializers[name]
            unique = name
            while unique in graph.initializers:
                unique += "_"
            value.name = unique
            graph.register_initializer(value)


def _move_nodes(branch: ir.Graph, graph: ir.Graph, before: ir.Node) -> None:
    nodes = list(branch)
    branch.remove(nodes)
    for moved in nodes:
        for value in moved.outputs:
            # Both branches may use the same names; node names are unique over all scopes.
            if value.name:
                value.name = f"{before.name}::{value.name}"
    graph.insert_before(before, nodes)


def _hand_over(node: ir.Node, value: ir.Value, result: ir.Value, name: str) -> None:
    """Let readers of the If's output read the branch's result, under the output's name."""
    if not value.is_graph_output():
        value.replace_all_uses_with(result)
        return
    graph = node.graph
    producer = result.producer()
    if producer is None or producer.graph is not graph or result.is_graph_output():
        copy = ir.Node("", "Identity", [result], name=name)
        copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
        copy.outputs[0].name = name
        node.prepend(copy)
        ir.add_origin(copy, [node], InlineConstantIf.name)
        result = copy.outputs[0]
    kept = value.name
    value.name = f"{kept}::before"
    value.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = kept
