"""Fold an addition of constants, one per channel, into the bias of the product before it.

A MatMul of two matrices that gains a bias becomes a Gemm.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip
from gcompile.passes.canonicalize.affine import channel_axis, fold_affine, product_and_constant
from gcompile.passes.channels import channel_vector


@dataclass(frozen=True)
class FoldAddIntoBias(NodePass):
    """Fold Add or Sub of a constant into the bias of the product before it."""

    name = "fold-add-into-bias"
    numerics = Numerics.ROUNDING
    ops = frozenset({"Add", "Sub"})

    def matches(self, node: ir.Node) -> bool:
        """A constant is added to, or subtracted from, a product."""
        return product_and_constant(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Shift the bias, and drop the node."""
        operands = product_and_constant(node)
        if operands is None:
            return Skip("no constant is added to a product")
        product, x, constant = operands
        if ir.only_reader(x) is not node:
            return Skip("the product has another reader")
        shape = ir.static_shape(x)
        shift = channel_vector(constant, shape, channel_axis(product))
        if shift is None or shape != ir.static_shape(node.outputs[0]):
            return Skip("the constant is not one number per channel")
        if node.op_type == "Sub":
            shift = -shift
        if reason := fold_affine(product, None, shift, name=str(node.name)):
            return Skip(reason)
        ir.add_origin(product, [node], self.name)
        ir.bypass(node, x)
        return None
