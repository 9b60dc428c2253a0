"""Find the weights of attention: softmax(scale · Q Kᵀ + mask), walking up from what reads them.

Exporters write it in many ways: the scale is a factor before or after the mask's axes are split
off, masks are added one after the other, weights that are not numbers become zeros. Whatever the
walk does not know ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from gcompile.ir.attention.vectors import Mask, NotAttentionError, Stored
from gcompile.ir.batched_product import is_batched_product
from gcompile.ir.constants import constant_array, is_constant
from gcompile.ir.quantization import quantization_of
from gcompile.ir.shapes import static_shape

_SAME = frozenset({"Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that keep the elements of the weights and their order."""

_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Weights that never are in memory need not be rounded for it, but may be."""


@dataclass
class Weights:
    """The weights of attention.

    Attributes:
        written: The values that are in memory between regions.
        nodes: All that was passed, from the reader's operand up to the first product.
        masks: What is added or hides, the last one first.
        shape: Of the weights where masks are added, else where the softmax reads them.
        zero_if_hidden: Queries that see no key give zeros.
        roundings: How the weights are stored wherever they are quantized, None for other ways
            than with one constant scale.
    """

    written: frozenset[onnx_ir.Value]
    nodes: set[onnx_ir.Node] = field(default_factory=set)
    masks: list[Mask] = field(default_factory=list)
    scale: float = 1.0
    zero_if_hidden: bool = False
    shape: tuple[int, ...] = ()
    roundings: set[Stored | None] = field(default_factory=set)

    def find(self, value: onnx_ir.Value) -> onnx_ir.Node:
        """Walk up from the weights to the product of queries and keys.

        Raises:
            NotAttentionError: They are not made as attention makes them.
        """
        read = input_of(self._softmax(value), 0)
        self.shape = static_shape(read)
        return self._scores(read)

    def _softmax(self, value: onnx_ir.Value) -> onnx_ir.Node:
        """Walk up to the softmax that made the weights."""
        while (node := value.producer()) is not None and not node.domain:
            self.nodes.add(node)
            if node.op_type == "Softmax":
                rank = len(static_shape(value))
                if node.attributes.get_int("axis", -1) % rank == rank - 1:
                    return node
                break
            if node.op_type == "Where" and (inner := _unless_nan(node)) is not None:
                self.zero_if_hidden = True
                self.nodes.add(_producer(input_of(node, 0)))
                value = inner
            elif node.op_type in _SAME | _ROUNDING:
                if node.op_type in _ROUNDING:
                    self.roundings.add(_rounding(node))
                value = input_of(node, 0)
            else:
                break
        raise NotAttentionError("its left operand is no softmax of rows")

    def _scores(self, value: onnx_ir.Value) -> onnx_ir.Node:
        """Walk up to the first product, past scales and masks."""
        while (node := value.producer()) is not None and not node.domain:
            self.nodes.add(node)
            if node.op_type == "MatMul":
                if is_batched_product(node):
                    return node
                break
            if node.op_type in _SAME:
                value = input_of(node, 0)
            elif node.op_type in ("Mul", "Div") and (scaled := _scaled(node)) is not None:
                value, factor = scaled
                self.scale *= factor
            elif node.op_type == "Add" and self.scale == 1.0:
                value = self._without_mask(node)
            elif node.op_type == "Where" and self.scale == 1.0:
                value = self._without_condition(node)
            else:
                break
        raise NotAttentionError("what its softmax reads is no scaled and masked product")

    def _without_mask(self, node: onnx_ir.Node) -> onnx_ir.Value:
        """Take the mask of an addition; what is left is as large as the sum."""
        shape = static_shape(node.outputs[0])
        for value, mask in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            if value is None or mask is None or static_shape(value) != shape:
                continue
            if is_constant(value) or not _leads_to_product(value):
                continue
            if mask.dtype != onnx_ir.DataType.FLOAT:
                break
            self._take(mask, shape)
            return value
        raise NotAttentionError("what is added to the weights of attention is no mask")

    def _without_condition(self, node: onnx_ir.Node) -> onnx_ir.Value:
        """Take the condition under which scores are replaced by a number."""
        shape = static_shape(node.outputs[0])
        condition = input_of(node, 0)
        for slot, where in ((2, True), (1, False)):
            value, number = input_of(node, slot), constant_array(input_of(node, 3 - slot))
            if number is None or number.size != 1 or static_shape(value) != shape:
                continue
            self._take(condition, shape, float(number.reshape(())), where)
            return value
        raise NotAttentionError("what replaces the weights of attention is no number")

    def _take(
        self,
        mask: onnx_ir.Value,
        shape: tuple[int, ...],
        hidden: float | None = None,
        where: bool = False,
    ) -> None:
        is_as_wide = len(shape) <= 4 and static_shape(mask)[-1:] == shape[-1:]
        if not is_as_wide or (self.masks and shape != self.shape):
            raise NotAttentionError("a mask of attention has other sizes than its weights")
        self.shape = shape
        self.masks.append(Mask(self._in_memory(mask), hidden, where))

    def _in_memory(self, mask: onnx_ir.Value) -> onnx_ir.Value:
        """A mask is read before it was decoded or repeated, if it is in memory there."""
        node = mask.producer()
        if node is not None and node.op_type == "Cast" and mask not in self.written:
            self.nodes.add(node)
            mask = input_of(node, 0)
            node = mask.producer()
        while node is not None and node.op_type == "Expand":
            source = input_of(node, 0)
            whole = static_shape(source)[-1:] == static_shape(mask)[-1:]
            if not whole or not (source in self.written or is_constant(source)):
                break
            mask, node = source, source.producer()
        return mask


def input_of(node: onnx_ir.Node, slot: int) -> onnx_ir.Value:
    """An operand that must be there.

    Raises:
        NotAttentionError: It is not.
    """
    value = node.inputs[slot]
    if value is None:
        raise NotAttentionError("an operand is missing")
    return value


def _producer(value: onnx_ir.Value) -> onnx_ir.Node:
    node = value.producer()
    if node is None:
        raise NotAttentionError("an operand is not computed")
    return node


def _rounding(node: onnx_ir.Node) -> Stored | None:
    """How QuantizeLinear or DequantizeLinear has the weights stored."""
    numbers = quantization_of(node)
    stored = node.outputs[0] if node.op_type == "QuantizeLinear" else input_of(node, 0)
    return None if numbers is None or stored.dtype is None else Stored(stored.dtype, *numbers)


def _leads_to_product(value: onnx_ir.Value) -> bool:
    """Say whether a product, perhaps scaled and masked before, made a value."""
    node = value.producer()
    while node is not None and node.op_type in _SAME | {"Mul", "Div", "Add", "Where"}:
        slot = 0
        if node.op_type == "Where":
            slot = 2 if is_constant(input_of(node, 1)) else 1
        node = input_of(node, slot).producer()
    return node is not None and node.op_type == "MatMul"


def _scaled(node: onnx_ir.Node) -> tuple[onnx_ir.Value, float] | None:
    """What is multiplied or divided by a constant number, and the factor."""
    first, second = input_of(node, 0), input_of(node, 1)
    if node.op_type == "Mul" and is_constant(first):
        first, second = second, first
    number = constant_array(second)
    if number is None or number.size != 1 or is_constant(first):
        return None
    factor = float(number.reshape(-1)[0])
    if node.op_type == "Mul":
        return first, factor
    return (first, 1.0 / factor) if factor else None


def _unless_nan(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """What `Where(IsNaN(x), 0, x)` lets pass: weights of queries that see no key are NaN."""
    condition, zero, value = (input_of(node, slot) for slot in range(3))
    test = condition.producer()
    number = constant_array(zero)
    if test is None or test.op_type != "IsNaN" or number is None or np.any(number):
        return None
    return value if test.inputs[0] is value else None
