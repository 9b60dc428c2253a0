"""Round a value to a narrow format with standard ONNX operators in fp32.

Powers of two come from logarithms, corrected by comparisons; all other steps are exact in fp32, so
that results are those of `formats`, bit for bit, where scales are powers of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gcompile import ir
from gcompile.passes.precision.formats import NumberFormat
from gcompile.passes.precision.store_narrow import Names

_SMALLEST = 2.0**-100
"""Blocks of numbers below it have its scale: divisors stay normal in fp32."""


@dataclass
class RoundingNodes:
    """Writes the nodes before a reader.

    Attributes:
        pass_name: Who is recorded as their origin.
    """

    graph: ir.Graph
    names: Names
    format: NumberFormat
    pass_name: str
    _reader: ir.Node | None = field(default=None, init=False)

    def round(self, x: ir.Value, axis: int, reader: ir.Node, peak: float | None) -> ir.Value:
        """The value in the format, along an axis; `peak` is for formats without blocks."""
        self._reader = reader
        if self.format.block is None:
            scale = self._number((peak or 1.0) / self.format.element.largest)
            scaled = self._add("Div", [x, scale])
            return self._add("Mul", [self._element(scaled), scale], like=x)
        return self._blocks(x, axis, self.format.block)

    def _blocks(self, x: ir.Value, axis: int, block: int) -> ir.Value:
        shape = ir.static_shape(x)
        order = [i for i in range(len(shape)) if i != axis] + [axis]
        moved = self._transposed(x, order)
        lead, depth = [shape[i] for i in order[:-1]], shape[axis]
        missing = -depth % block
        if missing:
            pads = np.array([0] * len(shape) + [0] * len(lead) + [missing], np.int64)
            moved = self._add("Pad", [moved, self._constant(pads)])
        cut = np.array([*lead, (depth + missing) // block, block], np.int64)
        blocks = self._add("Reshape", [moved, self._constant(cut)])
        last = self._constant(np.array([-1], np.int64))
        peak = self._add("ReduceMax", [self._add("Abs", [blocks]), last])
        ratio = self._number(2.0**-self.format.element.greatest_exponent)
        scale = self._add("Mul", [self._power(peak), ratio])
        rounded = self._add("Mul", [self._element(self._add("Div", [blocks, scale])), scale])
        whole = np.array([*lead, depth + missing], np.int64)
        joined = self._add("Reshape", [rounded, self._constant(whole)])
        if missing:
            ends = [np.array([n], np.int64) for n in (0, depth, len(shape) - 1)]
            joined = self._add("Slice", [joined, *(self._constant(end) for end in ends)])
        return self._transposed(joined, [int(i) for i in np.argsort(order)], like=x)

    def _element(self, x: ir.Value) -> ir.Value:
        """Round to the element's numbers, ties to even, and saturate."""
        element = self.format.element
        magnitude = self._add("Max", [self._add("Abs", [x]), self._number(2.0**element.least)])
        step = self._add("Mul", [self._power(magnitude), self._number(2.0**-element.mantissa)])
        steps = self._add("Round", [self._add("Div", [x, step])])
        limits = [self._number(-element.largest), self._number(element.largest)]
        return self._add("Clip", [self._add("Mul", [steps, step]), *limits])

    def _power(self, x: ir.Value) -> ir.Value:
        """The largest power of two that is not above x, for x from 2**-100."""
        x = self._add("Max", [x, self._number(_SMALLEST)])
        two = self._number(2.0)
        logarithm = self._add("Div", [self._add("Log", [x]), self._number(float(np.log(2.0)))])
        near = self._add("Pow", [two, self._add("Floor", [logarithm])])
        half = self._add("Div", [near, two])
        low = self._add("Where", [self._is_less(x, near), half, near])
        double = self._add("Mul", [low, two])
        return self._add("Where", [self._is_less(x, double), low, double])

    def _is_less(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self._add("Less", [left, right], dtype=ir.DataType.BOOL)

    def _transposed(
        self, x: ir.Value, order: Sequence[int], like: ir.Value | None = None
    ) -> ir.Value:
        attributes = [ir.Attr("perm", ir.AttributeType.INTS, tuple(order))]
        return self._add("Transpose", [x], attributes=attributes, like=like)

    def _number(self, number: float) -> ir.Value:
        return self._constant(np.array(number, np.float32))

    def _constant(self, array: ir.Array) -> ir.Value:
        return ir.add_constant(self.graph, self.names.new_value("rounding"), array)

    def _add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        *,
        attributes: Sequence[ir.Attr] = (),
        dtype: ir.DataType = ir.DataType.FLOAT,
        like: ir.Value | None = None,
    ) -> ir.Value:
        assert self._reader is not None
        name = self.names.new_node(f"{inputs[0].name}/{op_type}")
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1, name=name)
        (out,) = node.outputs
        out.name = self.names.new_value(f"{inputs[0].name}_{op_type}"[-60:])
        out.dtype = dtype
        self._reader.prepend(node)
        ir.add_origin(node, [self._reader], self.pass_name)
        out.shape = like.shape if like is not None else None
        return out
