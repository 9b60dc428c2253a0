"""Lower ConvInteger on dynamically quantized images to the convolution it means.

    float(sum (q - z) · (w - z_w)) · (s · s_w)
        =   conv(dequantize(q, s, z), dequantize(w - z_w, s_w))

with q, s, z = DynamicQuantizeLinear(x). In the other form the convolution is one region with all
that follows it, which adds up integers exactly and scales the sum. Padding stands for z, which is
found at run time: x is padded by zeros before it is quantized, which changes neither s nor z, as
zero always is in the range. Where w - z_w does not fit a signed byte, sums of windows make up:

    sum x · (w - z_w)   =   sum x · (w - 128)  +  (128 - z_w) · sum x
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.ir.dynamic_convolution import fits_signed_bytes
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

_SIGNED = 128
_GEOMETRY = ("strides", "dilations", "group", "kernel_shape")


@dataclass(frozen=True)
class LowerDynamicConvolutions(NodePass):
    """Lower ConvInteger, and the scaling after it, to a Conv of decoders."""

    name = "lower-dynamic-convolutions"
    numerics = Numerics.ROUNDING
    ops = frozenset({"ConvInteger"})

    def matches(self, node: ir.Node) -> bool:
        """Both scales of a convolution of integers are multiplied with its sums."""
        return ir.dynamic_convolution(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Turn the multiplication into the convolution."""
        found = ir.dynamic_convolution(node)
        if found is None or not isinstance(node.graph, ir.Graph):
            return Skip("the node is not connected")
        writer = _Writer(node.graph, node, found, self.name)
        x = writer.decoded_image()
        if fits_signed_bytes(found.weights, found.zeros):
            differences = found.weights.astype(np.int64) - found.zeros.reshape(-1, 1, 1, 1)
            writer.finish("Conv", (x, writer.decoded(differences, found.scales)))
            return None
        lowered = writer.decoded(found.weights.astype(np.int64) - _SIGNED, found.scales)
        ones = writer.decoded(np.ones((1, *found.weights.shape[1:]), np.int64), np.ones(1))
        beside = (_SIGNED - found.zeros) * found.scales.astype(np.float64)
        factors = beside.astype(np.float32).reshape(1, -1, 1, 1)
        shape = ir.static_shape(node.outputs[0])
        sums = writer.made("Conv", [x, ones], (shape[0], 1, *shape[2:]))
        writer.finish(
            "Add",
            (
                writer.made("Conv", [x, lowered], shape),
                writer.made(
                    "Mul",
                    [sums, writer.constant("factors", factors)],
                    (shape[0], factors.size, *shape[2:]),
                ),
            ),
        )
        return None


class _Writer:
    """Writes nodes before the scaling of one convolution."""

    def __init__(
        self, graph: ir.Graph, node: ir.Node, found: ir.DynamicConvolution, name: str
    ) -> None:
        self.graph, self.node, self.found, self.name = graph, node, found, name
        self.count = 0
        self.geometry = {key: value for key, value in node.attributes.items() if key in _GEOMETRY}

    def decoded_image(self) -> ir.Value:
        """The image with its padding, as real numbers."""
        stored: Sequence[ir.Value] = list(self.found.quantizer.outputs)
        shape = ir.static_shape(stored[0])
        pads = list(self.node.attributes.get_ints("pads", []))
        if any(pads):
            before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
            shape = (*shape[:2], *(b + size + a for b, size, a in
                                   zip(before, shape[2:], after, strict=True)))  # fmt: skip
            around = self.constant("pads", np.array([0, 0, *before, 0, 0, *after]))
            x = self.found.quantizer.inputs[0]
            assert x is not None
            padded = self.made("Pad", [x, around], shape)
            stored = self._quantized(padded, shape)
        return self.made("DequantizeLinear", stored, shape)

    def _quantized(self, x: ir.Value, shape: tuple[int, ...]) -> list[ir.Value]:
        value = self.made("DynamicQuantizeLinear", [x], shape, outputs=3)
        maker = value.producer()
        assert maker is not None
        for output, old in zip(maker.outputs, self.found.quantizer.outputs, strict=True):
            output.type = old.type
        for output in maker.outputs[1:]:
            output.name, output.shape = f"{value.name}::{output.index()}", ir.Shape(())
        return list(maker.outputs)

    def decoded(self, weights: ir.Array, scales: ir.Array) -> ir.Value:
        """Constant signed bytes as real numbers."""
        shape = () if scales.size == 1 else (scales.size,)
        name = f"weight{self.count}"
        parameters = [
            self.constant(name, weights.astype(np.int8)),
            self.constant(f"{name}_scale", scales.astype(np.float32).reshape(shape)),
            self.constant(f"{name}_zero_point", np.zeros(shape, np.int8)),
        ]
        axis = {"axis": ir.Attr("axis", ir.AttributeType.INT, 0)} if shape else {}
        return self.made("DequantizeLinear", parameters, weights.shape, axis)

    def constant(self, name: str, array: ir.Array) -> ir.Value:
        return ir.add_constant(self.graph, f"{self.node.name}::{name}", array)

    def made(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        shape: tuple[int, ...],
        attributes: Mapping[str, ir.Attr] | None = None,
        outputs: int = 1,
    ) -> ir.Value:
        """A node before the scaling, whose first result is real numbers of a shape."""
        given = self.geometry if op_type == "Conv" else attributes or {}
        name = f"{self.node.name}::{op_type}{self.count}"
        self.count += 1
        node = ir.Node("", op_type, inputs, list(given.values()), num_outputs=outputs, name=name)
        value = node.outputs[0]
        value.name, value.shape = f"{name}::value", ir.Shape(shape)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_before(self.found.scaled, node)
        ir.add_origin(node, [self.node], self.name)
        return value

    def finish(self, op_type: str, operands: tuple[ir.Value, ir.Value]) -> None:
        """Let the scaling itself become the last node, so that its result keeps its name."""
        scaled = self.found.scaled
        ir.add_origin(scaled, [self.node], self.name)
        scaled.op_type = op_type
        scaled.attributes.clear()
        if op_type == "Conv":
            for attribute in self.geometry.values():
                scaled.attributes.add(attribute)
        for slot, value in enumerate(operands):
            scaled.replace_input_with(slot, value)
