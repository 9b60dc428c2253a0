"""Move a scale from one operand of a product to the other, where fewer numbers are scaled.

    A · (c B)  =  (c A) · B

Exporters scale both operands of attention by the root of what one would be scaled by: the keys of
a decoder's cache are thousands of times as many as the queries of one token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class MoveScale(NodePass):
    """Move a Mul by a constant number from the larger computed operand to the smaller."""

    name = "move-scale"
    numerics = Numerics.ROUNDING
    ops = frozenset({"MatMul"})

    def matches(self, node: ir.Node) -> bool:
        """One operand is multiplied by a number, and the other is computed and smaller."""
        return _scaled_slot(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Put the Mul before the other operand."""
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
