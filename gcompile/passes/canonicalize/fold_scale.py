"""Fold a multiplication by constants, one per channel, into the weights before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip
from gcompile.passes.canonicalize.affine import channel_axis, fold_affine, product_and_constant
from gcompile.passes.channels import Vector, channel_vector


@dataclass(frozen=True)
class FoldScale(NodePass):
    """Fold Mul or Div by a constant into the weights of the product before it."""

    name = "fold-scale"
    numerics = Numerics.ROUNDING
    ops = frozenset({"Mul", "Div"})

    def matches(self, node: ir.Node) -> bool:
        """A product is multiplied by, or divided by, a constant."""
        return product_and_constant(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Scale the weight and the bias, and drop the node."""
        operands = product_and_constant(node)
        if operands is None:
            return Skip("no product is multiplied by a constant")
        product, x, constant = operands
        if ir.only_reader(x) is not node:
            return Skip("the product has another reader")
        shape = ir.static_shape(x)
        factor = channel_vector(constant, shape, channel_axis(product))
        if factor is None or shape != ir.static_shape(node.outputs[0]):
            return Skip("the constant is not one number per channel")
        scale = _reciprocal(factor) if node.op_type == "Div" else factor
        if scale is None:
            return Skip("the constant divides by zero")
        if reason := fold_affine(product, scale, None, name=str(node.name)):
            return Skip(reason)
        ir.add_origin(product, [node], self.name)
        ir.bypass(node, x)
        return None


def _reciprocal(vector: Vector) -> Vector | None:
    return None if np.any(vector == 0) else 1.0 / vector
