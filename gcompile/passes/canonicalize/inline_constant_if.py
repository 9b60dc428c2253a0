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
        for copy in ir.inline_branch(node, bool(condition.reshape(-1)[0])):
            ir.add_origin(copy, [node], self.name)
        return None
