"""Compute matrix products in 8-bit integers, with ranges that are found when the model runs.

    q, s, z = DynamicQuantizeLinear(x)        w ≈ q_w · s_w[channel]
    y = s · s_w[channel] · sum over k of (q - z) · q_w + bias

No calibration rows are needed, and no range is clipped: each inference pays for looking at its
inputs once, which is little beside products of many columns. The graph stays standard ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.affine import WeightRange, quantize_weight
from gcompile.passes.precision.eligibility import INT8_DEPTH_LIMIT
from gcompile.passes.precision.quantize_static import output_axis


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Quantize MatMul and Gemm with constant weights; inputs are quantized at run time.

    Attributes:
        weights: How weight ranges are clipped.
    """

    name: ClassVar[str] = "quantize-dynamic"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    weights: WeightRange = WeightRange.ABSMAX

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        changed = 0
        for graph in ir.all_graphs(model):
            quantized: dict[ir.Value, Sequence[ir.Value]] = {}
            for node in list(graph):
                if node.domain or node.op_type not in ("MatMul", "Gemm"):
                    continue
                if reason := _refusal(node):
                    ctx.skipped[self.name, reason] += 1
                    continue
                x = node.inputs[0]
                assert x is not None
                if x not in quantized:
                    quantized[x] = self._quantized(x, node)
                self._rewrite(graph, node, quantized[x])
                changed += 1
        ir.remove_unused(model)
        return changed

    def _quantized(self, x: ir.Value, reader: ir.Node) -> Sequence[ir.Value]:
        """The integers of a value, its scale and its zero point, before its first reader."""
        name = f"{x.name}::quantize"
        node = ir.Node("", "DynamicQuantizeLinear", [x], num_outputs=3, name=name)
        types = ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8
        ends = "stored", "scale", "zero_point"
        for value, dtype, end in zip(node.outputs, types, ends, strict=True):
            value.name, value.type = f"{x.name}::{end}", ir.TensorType(dtype)
            value.shape = x.shape if end == "stored" else ir.Shape(())
        reader.prepend(node)
        ir.add_origin(node, [reader], self.name)
        return node.outputs

    def _rewrite(self, graph: ir.Graph, node: ir.Node, quantized: Sequence[ir.Value]) -> None:
        weight, axis = node.inputs[1], output_axis(node)
        array = ir.constant_array(weight)
        assert weight is not None
        assert array is not None
        stored, scales = quantize_weight(array.astype(np.float32), axis, self.weights)
        parameters = [
            ir.add_constant(graph, f"{weight.name}_stored", stored),
            ir.add_constant(graph, f"{weight.name}_scale", scales),
            ir.add_constant(graph, f"{weight.name}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        along = [ir.Attr("axis", ir.AttributeType.INT, axis)]
        decoded = self._decoder(node, quantized, []), self._decoder(node, parameters, along)
        for slot, value in enumerate(decoded):
            node.replace_input_with(slot, value)

    def _decoder(
        self, reader: ir.Node, inputs: Sequence[ir.Value], attributes: Sequence[ir.Attr]
    ) -> ir.Value:
        name = f"{inputs[0].name}::{reader.name}"
        node = ir.Node("", "DequantizeLinear", inputs, attributes, num_outputs=1, name=name)
        (value,) = node.outputs
        value.name, value.shape = f"{name}::real", inputs[0].shape
        value.type = ir.TensorType(ir.DataType.FLOAT)
        reader.prepend(node)
        ir.add_origin(node, [reader], self.name)
        return value


def _refusal(node: ir.Node) -> str | None:
    """Why a product stays as it is."""
    x, weight = node.inputs[:2]
    if x is None or weight is None or not ir.is_constant(weight):
        return "its right operand is computed"
    if ir.is_constant(x):
        return "both operands are constant"
    if weight.dtype is not ir.DataType.FLOAT or x.dtype is not ir.DataType.FLOAT:
        return "it does not compute in fp32"
    if len(ir.static_shape(weight)) != 2 or len(ir.static_shape(x)) < 2:
        return "an operand is no matrix"
    if node.attributes.get_int("transA", 0):
        return "its first operand is transposed"
    if ir.static_shape(x)[-1] > INT8_DEPTH_LIMIT:
        return "its sums can overflow 32 bits"
    return None
