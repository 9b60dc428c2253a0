"""Eliminate reshapes that change nothing, and chains of them: only the last shape counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class EliminateReshapes(NodePass):
    """Eliminate reshapes to the same shape, and reshapes of reshapes."""

    name = "eliminate-reshapes"
    numerics = Numerics.EXACT
    ops = _VIEWS

    def matches(self, node: ir.Node) -> bool:
        """The shape stays, or the input is a reshape nobody else reads."""
        return _is_needless(node) or _view_before(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Bypass the reshape, or the one before it."""
        x, graph, y = node.inputs[0], node.graph, node.outputs[0]
        if x is None or not isinstance(graph, ir.Graph):
            return Skip("the node is not connected")
        before = _view_before(node)
        if before is None:
            reason = ir.bypass(node, x)
            return Skip(reason) if reason else None
        source, shape = before.inputs[0], ir.static_shape(y)
        if 0 in shape:
            return Skip("the tensor is empty")
        _become_reshape(node, graph, source, shape)
        ir.add_origin(node, [before], self.name)
        graph.remove(before, safe=True)
        if source is not None and _is_needless(node):
            ir.bypass(node, source)
        return None


def _is_needless(node: ir.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    return x is not None and x.shape is not None and x.shape == y.shape


def _view_before(node: ir.Node) -> ir.Node | None:
    x = node.inputs[0]
    before = x.producer() if x is not None else None
    if before is None or before.domain or before.op_type not in _VIEWS:
        return None
    return before if ir.only_reader(x) is node else None


def _become_reshape(
    node: ir.Node, graph: ir.Graph, source: ir.Value | None, shape: tuple[int, ...]
) -> None:
    wanted = ir.add_constant(graph, f"{node.name}::shape", np.array(shape, dtype=np.int64))
    node.op_type = "Reshape"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(0, source)
    node.replace_input_with(1, wanted)
