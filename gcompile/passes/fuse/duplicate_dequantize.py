"""Duplicate decoders of stored numbers, one per reader.

A region decodes what it reads on the way to its registers. A decoder with two readers would have
to store its wide result instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip


@dataclass(frozen=True)
class DuplicateDequantize(NodePass):
    """Duplicate DequantizeLinear, and Cast from bfloat16, for each reader."""

    name = "duplicate-dequantize"
    numerics = Numerics.EXACT
    ops = frozenset({"DequantizeLinear", "Cast"})

    def matches(self, node: ir.Node) -> bool:
        """A decoder whose value somebody else reads too."""
        if not ir.decodes_storage(node):
            return False
        return len(node.outputs[0].consumers()) + node.outputs[0].is_graph_output() > 1

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Leave the decoder to its first reader, or to the graph output it is."""
        value = node.outputs[0]
        readers = value.consumers()
        for reader in readers if value.is_graph_output() else readers[1:]:
            copy = _copy_for(node, reader)
            ir.add_origin(copy, [node], self.name)
            for slot, read in enumerate(reader.inputs):
                if read is value:
                    reader.replace_input_with(slot, copy.outputs[0])
        return None


def _copy_for(node: ir.Node, reader: ir.Node) -> ir.Node:
    name = f"{node.name}::{reader.name}"
    copy = ir.Node("", node.op_type, node.inputs, node.attributes.values(), name=name)
    copy.outputs[0].name = f"{node.outputs[0].name}::{reader.name}"
    copy.outputs[0].shape, copy.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    reader.prepend(copy)
    return copy
