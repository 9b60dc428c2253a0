"""Lower BatchNormalization that stands alone to a multiplication and an addition.

y = x · scale + shift, with both constants one number per channel, is elementwise: it can join the
region of its neighbours, which a BatchNormalization cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip
from gcompile.passes.canonicalize.fold_batch_norm import scale_and_shift
from gcompile.passes.channels import Vector


@dataclass(frozen=True)
class LowerBatchNorm(NodePass):
    """Lower BatchNormalization to Mul and Add with constants."""

    name = "lower-batch-norm"
    numerics = Numerics.ROUNDING
    ops = frozenset({"BatchNormalization"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Turn the node into the Add, after a new Mul."""
        x, graph, dtype = node.inputs[0], node.graph, node.outputs[0].dtype
        if x is None or dtype is None or not isinstance(graph, ir.Graph):
            return Skip("the node is not connected")
        affine = scale_and_shift(node)
        if isinstance(affine, str):
            return Skip(affine)
        rank = len(ir.static_shape(x))
        scale, shift = (
            ir.add_constant(graph, f"{node.name}::{name}", _column(vector, rank, dtype))
            for name, vector in zip(("scale", "shift"), affine, strict=True)
        )
        multiply = ir.Node("", "Mul", [x, scale], name=f"{node.name}::mul")
        product = multiply.outputs[0]
        product.name, product.shape, product.type = f"{node.name}::product", x.shape, x.type
        graph.insert_before(node, multiply)
        ir.add_origin(multiply, [node], self.name)
        ir.add_origin(node, [node], self.name)
        _become_add(node, product, shift)
        return None


def _column(vector: Vector, rank: int, dtype: ir.DataType) -> ir.Array:
    shape = (-1, *[1] * (rank - 2)) if rank > 1 else (-1,)
    return vector.astype(dtype.numpy()).reshape(shape)


def _become_add(node: ir.Node, left: ir.Value, right: ir.Value) -> None:
    node.op_type = "Add"
    node.attributes.clear()
    node.resize_inputs(2)
    node.resize_outputs(1)
    node.replace_input_with(0, left)
    node.replace_input_with(1, right)
