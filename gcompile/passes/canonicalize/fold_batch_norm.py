"""Fold BatchNormalization into the product before it.

scale  = gamma / sqrt(variance + epsilon)
weight' = weight · scale
bias'   = (bias - mean) · scale + beta

S. Ioffe and C. Szegedy, Batch Normalization, 2015, equation 4 with fixed statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip
from gcompile.passes.canonicalize.affine import channel_axis, fold_affine, product_before
from gcompile.passes.channels import Vector


@dataclass(frozen=True)
class FoldBatchNorm(NodePass):
    """Fold BatchNormalization into the convolution or matrix product before it."""

    name = "fold-batch-norm"
    numerics = Numerics.ROUNDING
    ops = frozenset({"BatchNormalization"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Give the product the scale and the shift of the normalization, and drop that."""
        x = node.inputs[0]
        product = product_before(x)
        if x is None or product is None:
            return Skip("its input is not a product")
        if ir.only_reader(x) is not node:
            return Skip("the product has another reader")
        if channel_axis(product) == -1 and len(ir.static_shape(x)) != 2:
            return Skip("the channels of the product are not those of the normalization")
        affine = scale_and_shift(node)
        if isinstance(affine, str):
            return Skip(affine)
        if reason := fold_affine(product, *affine, name=str(node.name)):
            return Skip(reason)
        ir.add_origin(product, [node], self.name)
        ir.bypass(node, x)
        return None


def scale_and_shift(node: ir.Node) -> tuple[Vector, Vector] | str:
    """Read a BatchNormalization as y = x · scale + shift, or say why it is none."""
    if node.attributes.get_int("training_mode", 0):
        return "the normalization is in training mode"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "the running statistics are read"
    arrays = [ir.constant_array(value) for value in node.inputs[1:5]]
    if any(array is None for array in arrays):
        return "a parameter of the normalization is not constant"
    gamma, beta, mean, variance = (a.astype(np.float64) for a in arrays if a is not None)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    if np.any(variance + epsilon <= 0):
        return "a variance is not positive"
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale
