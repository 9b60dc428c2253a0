"""Let the heads that share keys and values be the rows of one product: grouped-query attention.

    Y[h] = A[h] · B[h // g]   for every head h       g heads share a B
    Y[i g : (i + 1) g]  =  (A[i g], …, A[i g + g - 1] one below the other) · B[i]

Exporters repeat each B for its g heads, which costs g times the memory and its traffic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class _Repeated:
    """A stack of matrices, each of which stands there several times in a row.

    Attributes:
        once: The stack with each matrix once: (..., 1, rows, columns).
        times: How often each stands there.
        is_transposed: Whether they are transposed after they were repeated.
    """

    once: ir.Value
    times: int
    is_transposed: bool


@dataclass(frozen=True)
class GroupHeads(NodePass):
    """Multiply all heads that share a right operand with it at once."""

    name = "group-heads"
    numerics = Numerics.ROUNDING
    ops = frozenset({"MatMul"})

    def matches(self, node: ir.Node) -> bool:
        """The right operand repeats each of its matrices."""
        return _repeated(node.inputs[1]) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Reshape both operands, and the result back."""
        left, right, graph = node.inputs[0], node.inputs[1], node.graph
        found = _repeated(right)
        if found is None or left is None or right is None or not isinstance(graph, ir.Graph):
            return Skip("its right operand is not repeated")
        shape = ir.static_shape(left)
        if shape[:-2] != ir.static_shape(right)[:-2]:
            return Skip("its operands are broadcast")
        groups = math.prod(shape[:-2]) // found.times
        matrix = ir.static_shape(found.once)[-2:]
        writer = _Writer(node, graph)
        rows = writer.reshaped(left, (groups, found.times * shape[-2], shape[-1]), "rows")
        once = writer.reshaped(found.once, (groups, *matrix), "once")
        if found.is_transposed:
            once = writer.swapped(once)
        product = writer.node("MatMul", [rows, once], "groups")
        product.shape = ir.Shape((*ir.static_shape(rows)[:2], ir.static_shape(once)[-1]))
        result = writer.reshaped(product, ir.static_shape(node.outputs[0]), "heads")
        for made in writer.made:
            ir.add_origin(made, [node], self.name)
        _replace(node, result)
        return None


def _repeated(value: ir.Value | None) -> _Repeated | None:
    """Walk up through what keeps the matrices whole, to the Expand that repeats them."""
    is_transposed = False
    while value is not None and (node := value.producer()) is not None and not node.domain:
        source = node.inputs[0]
        if source is None:
            return None
        before, after = ir.static_shape(source), ir.static_shape(value)
        if node.op_type == "Expand":
            repeats = len(before) == len(after) >= 3 and before[-3] == 1 < after[-3]
            others = before[:-3] + before[-2:] == after[:-3] + after[-2:]
            return _Repeated(source, after[-3], is_transposed) if repeats and others else None
        if node.op_type == "Transpose":
            rank = len(before)
            perm = tuple(node.attributes.get_ints("perm", range(rank)[::-1]))
            if perm != (*range(rank - 2), rank - 1, rank - 2):
                return None
            is_transposed = not is_transposed
        elif node.op_type != "Reshape" or before[-2:] != after[-2:] or len(after) < 3:
            return None
        value = source
    return None


class _Writer:
    """Writes nodes before another."""

    def __init__(self, before: ir.Node, graph: ir.Graph) -> None:
        self.before, self.graph = before, graph
        self.made: list[ir.Node] = []

    def node(self, op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
        """A node whose result has the type of the node that it stands before."""
        made = ir.Node("", op_type, inputs, name=f"{self.before.name}::{name}")
        made.outputs[0].name = str(made.name)
        made.outputs[0].type = self.before.outputs[0].type
        self.before.prepend(made)
        self.made.append(made)
        return made.outputs[0]

    def reshaped(self, value: ir.Value, shape: tuple[int, ...], name: str) -> ir.Value:
        """The same elements under another shape."""
        constant = ir.add_constant(
            self.graph, f"{self.before.name}::{name}::shape", np.array(shape, np.int64)
        )
        result = self.node("Reshape", [value, constant], name)
        result.shape = ir.Shape(shape)
        return result

    def swapped(self, value: ir.Value) -> ir.Value:
        """The matrices of a stack, transposed."""
        stack, rows, columns = ir.static_shape(value)
        result = self.node("Transpose", [value], "swapped")
        perm = ir.Attr("perm", ir.AttributeType.INTS, (0, 2, 1))
        self.made[-1].attributes["perm"] = perm
        result.shape = ir.Shape((stack, columns, rows))
        return result


def _replace(node: ir.Node, result: ir.Value) -> None:
    """Let the result take the place of the node's output, under its name."""
    output, graph = node.outputs[0], node.graph
    name, output.name = output.name, f"{output.name}::repeated"
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = name
    if graph is not None:
        graph.remove(node, safe=True)
