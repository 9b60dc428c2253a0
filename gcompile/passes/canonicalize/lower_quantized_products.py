"""Lower QLinearConv and QLinearMatMul to the products of decoded integers that they mean.

    y = quantize(product(dequantize(x), dequantize(w)) + bias · s_x · s_w)

In that form they join regions, and integer kernels compute them as they do any product between
DequantizeLinear and QuantizeLinear: sums are exact, and results differ from those of another
runtime by at most one, where a scaled sum lies within a rounding error of a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_SHIFT = 128


@dataclass(frozen=True)
class LowerQuantizedProducts(NodePass):
    """Lower QLinearConv and QLinearMatMul to DequantizeLinear, the product and QuantizeLinear."""

    name = "lower-quantized-products"
    numerics = Numerics.ROUNDING
    ops = frozenset({"QLinearConv", "QLinearMatMul"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Turn the node into the QuantizeLinear, after the nodes that lead to it."""
        graph = node.graph
        if not isinstance(graph, ir.Graph):
            return Skip("the node is not connected")
        inputs = [*node.inputs, None][:9]
        if any(not ir.is_constant(value) for value in (*inputs[1:3], *inputs[4:8])):
            return Skip("a scale or zero point is computed")
        if any(_size(value) != 1 for value in (*inputs[1:3], *inputs[6:8])):
            return Skip("an activation has several scales")
        is_conv = node.op_type == "QLinearConv"
        weight = inputs[3]
        if weight is None or (not is_conv and len(ir.static_shape(weight)) != 2):
            return Skip("its right operand is no matrix")
        bias = _real_bias(graph, node) if is_conv else None
        if is_conv and bias is None and inputs[8] is not None:
            return Skip("its bias is computed")
        x = self._decoded(graph, node, inputs[:3], axis=1)
        w = self._decoded(graph, node, _signed(graph, inputs[3:6]), axis=0 if is_conv else 1)
        operands = [x, w] if bias is None else [x, w, bias]
        product = ir.Node(
            "", "Conv" if is_conv else "MatMul", operands, node.attributes.values(),
            name=f"{node.name}::product",
        )  # fmt: skip
        self._insert(graph, node, product, node.outputs[0].shape)
        ir.add_origin(node, [node], self.name)
        parameters = [_parameter(graph, value, inputs[6]) for value in inputs[6:8]]
        _become_quantize(node, product.outputs[0], parameters)
        return None

    def _decoded(
        self, graph: ir.Graph, node: ir.Node, operand: Sequence[ir.Value | None], axis: int
    ) -> ir.Value:
        stored, scale, zero = operand
        attributes = [ir.Attr("axis", ir.AttributeType.INT, axis)] if _size(scale) > 1 else []
        operand = [stored, *(_parameter(graph, value, scale) for value in (scale, zero))]
        name = f"{node.name}::{stored.name if stored is not None else ''}"
        decode = ir.Node("", "DequantizeLinear", operand, attributes, name=name)
        self._insert(graph, node, decode, stored.shape if stored is not None else None)
        return decode.outputs[0]

    def _insert(
        self, graph: ir.Graph, node: ir.Node, made: ir.Node, shape: ir.Shape | None
    ) -> None:
        (value,) = made.outputs
        value.name, value.shape = f"{made.name}::real", shape
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, made)
        ir.add_origin(made, [node], self.name)


def _size(value: ir.Value | None) -> int:
    return int(np.prod(ir.static_shape(value)))


def _parameter(graph: ir.Graph, value: ir.Value | None, like: ir.Value | None) -> ir.Value | None:
    """A scale or zero point as a scalar, or as a vector where `like` is one."""
    array, count = ir.constant_array(value), _size(like)
    shape = () if count == 1 else (count,)
    if array is None or value is None or array.shape == shape:
        return value
    return ir.add_constant(graph, f"{value.name}::shaped", np.resize(array, shape))


def _signed(graph: ir.Graph, operand: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    """A constant weight as signed integers, which is what integer kernels multiply."""
    weight, scale, zero = operand
    arrays = [ir.constant_array(value) for value in (weight, zero)]
    if weight is None or arrays[0] is None or arrays[1] is None or arrays[0].dtype != np.uint8:
        return [weight, scale, zero]
    made = [
        ir.add_constant(graph, f"{weight.name}::{name}", _lowered(array))
        for name, array in zip(("signed", "zero_point"), arrays, strict=True)
        if array is not None
    ]
    return [made[0], scale, made[1]]


def _lowered(array: ir.Array) -> ir.Array:
    return (array.astype(np.int16) - _SHIFT).astype(np.int8)


def _real_bias(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """The bias of a convolution in fp32; None where it has none, or a computed one."""
    bias = ir.constant_array(node.inputs[8]) if len(node.inputs) > 8 else None
    scales = [ir.constant_array(node.inputs[slot]) for slot in (1, 4)]
    if bias is None or scales[0] is None or scales[1] is None:
        return None
    factor = scales[0].astype(np.float64).reshape(-1) * scales[1].astype(np.float64).reshape(-1)
    real = (bias.astype(np.float64) * factor).astype(np.float32)
    return ir.add_constant(graph, f"{node.name}::bias", real)


def _become_quantize(
    node: ir.Node, product: ir.Value, parameters: Sequence[ir.Value | None]
) -> None:
    node.op_type = "QuantizeLinear"
    node.attributes.clear()
    node.resize_inputs(3)
    for slot, value in enumerate((product, *parameters)):
        node.replace_input_with(slot, value)
