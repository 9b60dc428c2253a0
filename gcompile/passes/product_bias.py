"""The constant that is added to a product, wherever the graph keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir


@dataclass(frozen=True)
class ProductBias:
    """Operand `index` of `node` is the constant added to a product; None where there is none."""

    node: ir.Node
    index: int
    constant: ir.Value | None

    def set(self, value: ir.Value | None) -> None:
        """Add another constant, or none."""
        if value is not None and len(self.node.inputs) <= self.index:
            self.node.resize_inputs(self.index + 1)
        self.node.replace_input_with(self.index, value)
        if value is None and len(self.node.inputs) == self.index + 1:
            self.node.resize_inputs(self.index)


def bias_of(product: ir.Node) -> ProductBias | None:
    """Where a product has, or can be given, a constant to add; None where there is no place."""
    if product.op_type in ("Conv", "Gemm"):
        constant = product.inputs[2] if len(product.inputs) > 2 else None
        fits = constant is None or ir.is_constant(constant)
        return ProductBias(product, 2, constant) if fits else None
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or product.outputs[0].is_graph_output():
        return None
    node, index = uses[0].node, 1 - uses[0].idx
    constant = node.inputs[index]
    return ProductBias(node, index, constant) if ir.is_constant(constant) else None
