"""Lower MatMulInteger on dynamically quantized inputs to the product of real numbers it means.

    float(sum (q - z) · w) · (s · s_w)   =   product(dequantize(q, s, z), dequantize(w, s_w))

with q, s, z = DynamicQuantizeLinear(x). That is what dynamic quantization writes for each product.
In the other form the product is one region with all that follows it, which adds up integers
exactly and scales the sum; results differ by the rounding of the last few operations. Weights of
the unsigned type, with a zero point z_w, are shifted into the signed one, and the sums of rows
make up for it:

    sum x · (w - z_w)   =   sum x · (w - 128)  +  (128 - z_w) · sum x
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_SIGNED = 128


@dataclass(frozen=True)
class LowerDynamicProducts(NodePass):
    """Lower the scaling after MatMulInteger, and the product with it, to a MatMul of decoders."""

    name = "lower-dynamic-products"
    numerics = Numerics.ROUNDING
    ops = frozenset({"Mul"})

    def matches(self, node: ir.Node) -> bool:
        """A multiplication of a product's sums with the scales of both operands."""
        return _scaled_product(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Turn the multiplication into the product."""
        graph = node.graph
        product = _scaled_product(node)
        if product is None or not isinstance(graph, ir.Graph):
            return Skip("the node is not connected")
        scales = ir.constant_array(_weight_scale(node, product))
        quantizer, weight = product.inputs[0], ir.constant_array(product.inputs[1])
        assert quantizer is not None
        if scales is None or weight is None:
            return Skip("the weight or its scale is computed")
        if weight.ndim != 2 or len(ir.static_shape(quantizer)) < 2:
            return Skip("an operand is no matrix")
        if scales.size not in (1, weight.shape[1]):
            return Skip("the weight's scales run along its depth")
        zeros = _zero_points(product, weight)
        if zeros is None:
            return Skip("the weight's zero points are computed, or run along its depth")
        shift = _SIGNED if weight.dtype == np.uint8 else 0
        maker = quantizer.producer()
        assert maker is not None
        x = self._decoder(graph, node, list(maker.outputs), [])
        name, shape = f"{node.name}::weight", () if scales.size == 1 else (scales.size,)
        signed = (weight.astype(np.int16) - shift).astype(np.int8)
        parameters = [
            ir.add_constant(graph, name, signed) if shift else product.inputs[1],
            ir.add_constant(graph, f"{name}_scale", scales.astype(np.float32).reshape(shape)),
            ir.add_constant(graph, f"{name}_zero_point", np.zeros(shape, np.int8)),
        ]
        axis = [ir.Attr("axis", ir.AttributeType.INT, 1)] if shape else []
        w = self._decoder(graph, node, parameters, axis)
        ir.add_origin(node, [product], self.name)
        operands = (x, w)
        if (shift - zeros).any():
            beside = (shift - zeros) * scales.reshape(-1).astype(np.float64)
            operands = self._with_sums(graph, node, x, w, beside.astype(np.float32))
        node.op_type = "Add" if (shift - zeros).any() else "MatMul"
        node.attributes.clear()
        for slot, value in enumerate(operands):
            node.replace_input_with(slot, value)
        return None

    def _with_sums(
        self,
        graph: ir.Graph,
        node: ir.Node,
        x: ir.Value,
        w: ir.Value,
        factors: NDArray[np.float32],
    ) -> tuple[ir.Value, ir.Value]:
        """The product, and the sums of its rows times a factor for each column."""
        shape = ir.static_shape(x)
        axes = ir.add_constant(graph, f"{node.name}::axes", np.array([-1]))
        columns = ir.add_constant(graph, f"{node.name}::factors", factors)
        product = self._made(graph, node, "MatMul", [x, w], ir.static_shape(node.outputs[0]))
        sums = self._made(graph, node, "ReduceSum", [x, axes], (*shape[:-1], 1))
        rank_one = (*shape[:-1], factors.size)
        return product, self._made(graph, node, "Mul", [sums, columns], rank_one)

    def _made(
        self,
        graph: ir.Graph,
        node: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        shape: tuple[int, ...],
    ) -> ir.Value:
        name = f"{node.name}::{op_type}"
        made = ir.Node("", op_type, inputs, num_outputs=1, name=name)
        (value,) = made.outputs
        value.name, value.shape = f"{name}::value", ir.Shape(shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, made)
        ir.add_origin(made, [node], self.name)
        return value

    def _decoder(
        self,
        graph: ir.Graph,
        node: ir.Node,
        inputs: list[ir.Value] | list[ir.Value | None],
        attributes: list[ir.Attr],
    ) -> ir.Value:
        stored = inputs[0]
        assert stored is not None
        name = f"{node.name}::{stored.name}"
        made = ir.Node("", "DequantizeLinear", inputs, attributes, num_outputs=1, name=name)
        (value,) = made.outputs
        value.name, value.shape = f"{name}::real", stored.shape
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, made)
        ir.add_origin(made, [node], self.name)
        return value


def _scaled_product(node: ir.Node) -> ir.Node | None:
    """The MatMulInteger whose sums, as floats, the node multiplies with both scales."""
    for value in node.inputs:
        cast = value.producer() if value is not None else None
        if cast is None or cast.op_type != "Cast" or cast.domain or not _is_read_once(cast):
            continue
        inner = cast.inputs[0].producer() if cast.inputs[0] is not None else None
        if inner is None or inner.op_type != "MatMulInteger" or inner.domain:
            continue
        is_whole = len(inner.inputs) > 2 and cast.outputs[0].dtype is ir.DataType.FLOAT
        if is_whole and _is_read_once(inner) and _quantizer(inner) is not None:
            return inner if _weight_scale(node, inner) is not None else None
    return None


def _quantizer(product: ir.Node) -> ir.Node | None:
    """The DynamicQuantizeLinear that makes the left operand and its zero point."""
    stored, zero = product.inputs[0], product.inputs[2]
    maker = stored.producer() if stored is not None else None
    if maker is None or maker.op_type != "DynamicQuantizeLinear" or maker.domain:
        return None
    return maker if stored is maker.outputs[0] and zero is maker.outputs[2] else None


def _weight_scale(node: ir.Node, product: ir.Node) -> ir.Value | None:
    """What the other factor of the node multiplies with the scale of the left operand."""
    quantizer = _quantizer(product)
    scale = quantizer.outputs[1] if quantizer is not None else None
    for value in node.inputs:
        factor = value.producer() if value is not None else None
        if factor is None or factor.op_type != "Mul" or factor.domain:
            continue
        others = [other for other in factor.inputs if other is not scale]
        if len(others) == 1:
            return others[0]
    return None


def _zero_points(product: ir.Node, weight: ir.Array) -> NDArray[np.int64] | None:
    """Those of the weight: one, or one for each column."""
    value = product.inputs[3] if len(product.inputs) > 3 else None
    if value is None:
        return np.zeros(1, np.int64)
    array = ir.constant_array(value)
    if array is None or array.size not in (1, weight.shape[1]):
        return None
    return array.astype(np.int64).reshape(-1)


def _is_read_once(node: ir.Node) -> bool:
    value = node.outputs[0]
    return len(value.uses()) == 1 and not value.is_graph_output()
