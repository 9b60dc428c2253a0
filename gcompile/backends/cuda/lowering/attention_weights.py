"""Find the weights of attention: softmax(scale · Q Kᵀ + mask), walking up from what reads them.

Exporters write it in many ways: the scale is a factor before or after the mask's axes are split
off, masks are added one after the other, weights that are not numbers become zeros. Whatever the
walk does not know ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_SAME = frozenset({"Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that keep the elements of the weights and their order."""

_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Weights that never are in memory need not be rounded for it."""


@dataclass
class Weights:
    """The weights of attention.

    Attributes:
        written: The values that are in memory between regions.
        nodes: All that was passed, from the reader's operand up to the first product.
        masks: What is added, each (..., 1 or queries, keys).
        shape: Of the weights where masks are added, else where the softmax reads them.
        zero_if_hidden: Queries that see no key give zeros.
    """

    written: frozenset[ir.Value]
    nodes: set[ir.Node] = field(default_factory=set)
    masks: list[ir.Value] = field(default_factory=list)
    scale: float = 1.0
    zero_if_hidden: bool = False
    shape: tuple[int, ...] = ()

    def find(self, value: ir.Value) -> ir.Node:
        """Walk up from the weights to the product of queries and keys.

        Raises:
            CannotEmitError: They are not made as attention makes them.
        """
        read = input_of(self._softmax(value), 0)
        self.shape = ir.static_shape(read)
        return self._scores(read)

    def _softmax(self, value: ir.Value) -> ir.Node:
        """Walk up to the softmax that made the weights."""
        while (node := value.producer()) is not None and not node.domain:
            self.nodes.add(node)
            if node.op_type == "Softmax":
                rank = len(ir.static_shape(value))
                if node.attributes.get_int("axis", -1) % rank == rank - 1:
                    return node
                break
            if node.op_type == "Where" and (inner := _unless_nan(node)) is not None:
                self.zero_if_hidden = True
                self.nodes.add(_producer(input_of(node, 0)))
                value = inner
            elif node.op_type in _SAME | _ROUNDING:
                value = input_of(node, 0)
            else:
                break
        raise CannotEmitError("its left operand is no softmax of rows")

    def _scores(self, value: ir.Value) -> ir.Node:
        """Walk up to the first product, past scales and masks."""
        while (node := value.producer()) is not None and not node.domain:
            self.nodes.add(node)
            if node.op_type == "MatMul":
                if ir.is_batched_product(node):
                    return node
                break
            if node.op_type in _SAME:
                value = input_of(node, 0)
            elif node.op_type in ("Mul", "Div") and (scaled := _scaled(node)) is not None:
                value, factor = scaled
                self.scale *= factor
            elif node.op_type == "Add" and self.scale == 1.0:
                value = self._without_mask(node)
            else:
                break
        raise CannotEmitError("what its softmax reads is no scaled and masked product")

    def _without_mask(self, node: ir.Node) -> ir.Value:
        """Take the mask of an addition; what is left is as large as the sum."""
        shape = ir.static_shape(node.outputs[0])
        for value, mask in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            if value is None or mask is None or ir.static_shape(value) != shape:
                continue
            if ir.is_constant(value) or not _leads_to_product(value):
                continue
            sizes = ir.static_shape(mask)
            if len(shape) > 4 or sizes[-1:] != shape[-1:] or mask.dtype != ir.DataType.FLOAT:
                break
            if self.masks and shape != self.shape:
                break
            self.shape = shape
            self.masks.append(self._before_expand(mask))
            return value
        raise CannotEmitError("what is added to the weights of attention is no mask")

    def _before_expand(self, mask: ir.Value) -> ir.Value:
        """A mask is read where it was before it was repeated, if it is in memory there."""
        node = mask.producer()
        while node is not None and node.op_type == "Expand":
            source = input_of(node, 0)
            whole = ir.static_shape(source)[-1:] == ir.static_shape(mask)[-1:]
            if not whole or not (source in self.written or ir.is_constant(source)):
                break
            mask, node = source, source.producer()
        return mask


def input_of(node: ir.Node, slot: int) -> ir.Value:
    """An operand that must be there.

    Raises:
        CannotEmitError: It is not.
    """
    value = node.inputs[slot]
    if value is None:
        raise CannotEmitError("an operand is missing")
    return value


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    if node is None:
        raise CannotEmitError("an operand is not computed")
    return node


def _leads_to_product(value: ir.Value) -> bool:
    """Say whether a product, perhaps scaled and masked before, made a value."""
    node = value.producer()
    while node is not None and node.op_type in _SAME | {"Mul", "Div", "Add"} and node.inputs[0]:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "MatMul"


def _scaled(node: ir.Node) -> tuple[ir.Value, float] | None:
    """What is multiplied or divided by a constant number, and the factor."""
    first, second = input_of(node, 0), input_of(node, 1)
    if node.op_type == "Mul" and ir.is_constant(first):
        first, second = second, first
    number = ir.constant_array(second)
    if number is None or number.size != 1 or ir.is_constant(first):
        return None
    factor = float(number.reshape(-1)[0])
    if node.op_type == "Mul":
        return first, factor
    return (first, 1.0 / factor) if factor else None


def _unless_nan(node: ir.Node) -> ir.Value | None:
    """What `Where(IsNaN(x), 0, x)` lets pass: weights of queries that see no key are NaN."""
    condition, zero, value = (input_of(node, slot) for slot in range(3))
    test = condition.producer()
    number = ir.constant_array(zero)
    if test is None or test.op_type != "IsNaN" or number is None or np.any(number):
        return None
    return value if test.inputs[0] is value else None
