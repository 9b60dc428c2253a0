"""Move a scale from one operand of a product to where fewer numbers are scaled, or in passing.

    A · (c B)  =  (c A) · B          (b A) · (c B)  =  b c (A · B)

Exporters scale both operands of attention by the root of what one would be scaled by: the keys of
a decoder's cache are thousands of times as many as the queries of one token. Where both are
scaled, one factor of the result takes the place of both, which the product does in passing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class MoveScale(NodePass):
    """Move a Mul by a constant number from the larger computed operand to the smaller."""

    name = "move-scale"
    numerics = Numerics.ROUNDING
    ops = frozenset({"MatMul"})

    def matches(self, node: ir.Node) -> bool:
        """Both operands are multiplied by numbers, or one is, and the other is smaller."""
        return _are_both_scaled(node) or _scaled_slot(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Put a Mul after the product, or the Mul before the other operand."""
        if _are_both_scaled(node):
            return _scale_result(node, self.name)
        slot = _scaled_slot(node)
        if slot is None:
            return Skip("no operand is scaled")
        scaled, other = node.inputs[slot], node.inputs[1 - slot]
        operands = _scale(scaled)
        if operands is None or scaled is None or other is None:
            return Skip("no operand is scaled")
        if ir.only_reader(scaled) is not node:
            return Skip("the scaled operand has another reader")
        source, number = operands
        mul = scaled.producer()
        moved = ir.Node("", "Mul", [other, number], name=f"{node.name}::scale")
        result = moved.outputs[0]
        result.name, result.shape, result.type = f"{node.name}::scaled", other.shape, other.type
        node.prepend(moved)
        node.replace_input_with(slot, source)
        node.replace_input_with(1 - slot, result)
        if mul is not None and mul.graph is not None:
            ir.add_origin(moved, [mul], self.name)
            mul.graph.remove(mul, safe=True)
        return None


def _are_both_scaled(node: ir.Node) -> bool:
    return all(
        _scale(value) is not None and ir.only_reader(value) is node for value in node.inputs[:2]
    )


def _scale_result(node: ir.Node, pass_name: str) -> Skip | None:
    """Let the product read both operands as they were, and scale its result."""
    operands = [operand for value in node.inputs[:2] if (operand := _scale(value)) is not None]
    output, graph = node.outputs[0], node.graph
    numbers = [ir.constant_array(number) for _, number in operands]
    if not isinstance(graph, ir.Graph):
        return Skip("the product is not part of a graph")
    factor = math.prod(float(number) for number in numbers if number is not None)
    scaled = [value.producer() for value in node.inputs[:2] if value is not None]
    dtype = (output.dtype or ir.DataType.FLOAT).numpy()
    constant = ir.add_constant(graph, f"{node.name}::scale", np.asarray(factor, dtype))
    for slot, (source, _) in enumerate(operands):
        node.replace_input_with(slot, source)
    after = ir.Node("", "Mul", [output, constant], name=f"{node.name}::scaled")
    result = after.outputs[0]
    result.shape, result.type = output.shape, output.type
    name, output.name = output.name, f"{output.name}::unscaled"
    graph.insert_after(node, after)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    after.replace_input_with(0, output)
    result.name = name
    for mul in scaled:
        if mul is not None and mul.graph is not None:
            ir.add_origin(after, [mul], pass_name)
            mul.graph.remove(mul, safe=True)
    return None


def _scaled_slot(node: ir.Node) -> int | None:
    """Which operand is scaled and larger than the other, which is computed."""
    first, second = node.inputs[:2]
    for slot, (scaled, other) in enumerate([(first, second), (second, first)]):
        if _scale(scaled) is None or other is None or ir.is_constant(other):
            continue
        if math.prod(ir.static_shape(scaled)) > math.prod(ir.static_shape(other)):
            return slot
    return None


def _scale(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """What is multiplied by a constant number, and that number."""
    mul = value.producer() if value is not None else None
    if value is None or mul is None or mul.domain or mul.op_type != "Mul":
        return None
    for source, number in (mul.inputs, reversed(mul.inputs)):
        if source is None or number is None or ir.is_constant(source):
            continue
        is_number = ir.is_constant(number) and ir.static_shape(number) == ()
        if is_number and ir.static_shape(source) == ir.static_shape(value):
            return source, number
    return None
