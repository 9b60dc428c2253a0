"""Gather from a table as it is stored, and decode what was gathered.

A table of embeddings in eight bits stays so, and a lookup reads a quarter of the bytes. What is
decoded is the same, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class GatherStored(NodePass):
    """Move a DequantizeLinear of a constant behind the Gather that reads it."""

    name = "gather-stored"
    numerics = Numerics.EXACT
    ops = frozenset({"Gather"})

    def matches(self, node: ir.Node) -> bool:
        """The table is a decoded constant."""
        return _decoder_before(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Gather the stored numbers; scales stay with the axis that they belong to."""
        decoder, output = _decoder_before(node), node.outputs[0]
        if decoder is None:
            return Skip("the table is not a decoded constant")
        stored, scale, *zero = decoder.inputs
        if stored is None or scale is None or len(ir.static_shape(scale)) > 1:
            return Skip("the table has scales of blocks")
        axis = _axis_after(node, decoder)
        if axis is None:
            return Skip("each row of the table has a scale of its own")
        after = ir.Node(
            "", "DequantizeLinear", [output, scale, *zero],
            [ir.Attr("axis", ir.AttributeType.INT, axis)], name=f"{node.name}::decoded",
        )  # fmt: skip
        result = after.outputs[0]
        result.shape, result.type = output.shape, output.type
        name, output.name = output.name, f"{output.name}::stored"
        node.append(after)
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        result.name = name
        after.replace_input_with(0, output)
        node.replace_input_with(0, stored)
        output.type = stored.type
        ir.add_origin(after, [decoder], self.name)
        return None


def _axis_after(node: ir.Node, decoder: ir.Node) -> int | None:
    """The axis that scales belong to once the table is gathered; None for that of the rows."""
    scales = ir.static_shape(decoder.inputs[1])
    if not scales:
        return 0
    rank = len(ir.static_shape(decoder.inputs[0]))
    own = decoder.attributes.get_int("axis", 1) % rank
    picked = node.attributes.get_int("axis", 0) % rank
    if own == picked:
        return None
    return own if own < picked else own + len(ir.static_shape(node.inputs[1])) - 1


def _decoder_before(node: ir.Node) -> ir.Node | None:
    table = node.inputs[0]
    decoder = table.producer() if table is not None else None
    if decoder is None or decoder.domain or decoder.op_type != "DequantizeLinear":
        return None
    is_constant = all(value is None or ir.is_constant(value) for value in decoder.inputs)
    return decoder if is_constant and node.inputs[1] is not None else None
