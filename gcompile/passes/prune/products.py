"""Products with constant weights: which of their axes make channels, and which are summed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gcompile import ir

_MOVED = ("Cast", "DequantizeLinear", "Identity")


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product with one constant operand, its second.

    Attributes:
        weight: The constant as it is stored, perhaps quantized.
        makes: The axis of the weight that counts output channels.
        sums: The axis that is summed over; None where channels go through without being mixed.
        channel: The axis of the output that counts its channels.
    """

    node: ir.Node
    weight: ir.Value
    makes: int
    sums: int | None
    channel: int

    @property
    def name(self) -> str:
        """The name of the node."""
        return str(self.node.name)


def products(model: ir.Model) -> Iterator[Product]:
    """The products of the main graph, in the order they run."""
    for node in model.graph:
        if (product := product_of(node)) is not None:
            yield product


def product_of(node: ir.Node) -> Product | None:
    """Describe a node; None where it is no product, or has no constant weight."""
    if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    weight = stored_weight(node.inputs[1])
    if weight is None or node.inputs[0] is None or stored_weight(node.inputs[0]) is not None:
        return None
    rank = len(ir.static_shape(weight))
    mixes = node.attributes.get_int("group", 1) == 1
    match node.op_type:
        case "Conv":
            return Product(node, weight, 0, 1 if mixes else None, 1)
        case "ConvTranspose":
            return Product(node, weight, 1 if mixes else 0, 0 if mixes else None, 1)
        case "Gemm":
            turned = bool(node.attributes.get_int("transB", 0))
            return Product(node, weight, 0 if turned else 1, 1 if turned else 0, 1)
        case _ if rank == 2:
            return Product(node, weight, 1, 0, len(ir.static_shape(node.outputs[0])) - 1)
    return None


def stored_weight(value: ir.Value | None) -> ir.Value | None:
    """The constant behind a decoder, or the value itself where it is one."""
    while value is not None and not ir.is_constant(value):
        producer = value.producer()
        if producer is None or producer.domain or producer.op_type not in _MOVED:
            return None
        value = producer.inputs[0]
    return value
