"""Quantized operators whose scales are computed, or lie in blocks, in plain arithmetic.

Those with constant scales stay: integer kernels compute them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.constants import is_constant
from gcompile.ir.written_out.writer import Writer

_FLOAT = onnx_ir.DataType.FLOAT
Results = Sequence[onnx_ir.Value | None] | None


def product(writer: Writer) -> Results:
    """QLinearMatMul: the product of the decoded operands, in steps of the output's scale."""
    shapes = writer.shape(0), writer.shape(3)
    if None in shapes or (_are_constant(writer, (1, 2, 4, 5, 6, 7)) and _is_matrix(shapes[1])):
        return None
    left = _decoded(writer, 0, -2)
    right = _decoded(writer, 3, -1)
    return [_encoded(writer, writer.op("MatMul", left, right), 6)]


def convolution(writer: Writer) -> Results:
    """QLinearConv, likewise."""
    if writer.shape(0) is None or _are_constant(writer, (1, 2, 4, 5, 6, 7)):
        return None
    x, weight = _decoded(writer, 0, 1), _decoded(writer, 3, 0)
    operands = [x, weight]
    if writer.has(8):
        scale = writer.op("Mul", *(writer.cast(writer.input(i), _FLOAT) for i in (1, 4)))
        bias = writer.op("Mul", writer.cast(writer.input(8), _FLOAT), scale)
        operands.append(bias)
    return [_encoded(writer, writer.same("Conv", *operands), 6)]


def quantize_blocks(writer: Writer) -> Results:
    """QuantizeLinear whose scales are those of blocks along an axis."""
    repeated = _repeated(writer, 1)
    if repeated is None:
        return None
    quotient = writer.op("Div", writer.cast(writer.input(0), _FLOAT), repeated)
    rounded = writer.op("Round", quotient)
    result = writer.node.outputs[0].dtype
    zero = _repeated(writer, 2) if writer.has(2) else None
    if result is None or result.numpy().kind not in "iu":
        return None
    return [_clipped(writer, rounded, zero, result)]


def dequantize_blocks(writer: Writer) -> Results:
    """DequantizeLinear whose scales are those of blocks along an axis."""
    repeated = _repeated(writer, 1)
    if repeated is None or is_constant(writer.input(0)):
        return None
    numbers = writer.cast(writer.input(0), _FLOAT)
    if writer.has(2) and (zero := _repeated(writer, 2)) is not None:
        numbers = writer.op("Sub", numbers, zero)
    result = writer.node.outputs[0].dtype or _FLOAT
    return [writer.cast(writer.op("Mul", numbers, repeated), result)]


def _are_constant(writer: Writer, indices: Sequence[int]) -> bool:
    return all(not writer.has(i) or is_constant(writer.input(i)) for i in indices)


def _is_matrix(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 2


def _decoded(writer: Writer, index: int, axis: int) -> onnx_ir.Value:
    """An operand as real numbers; its scale and zero point follow it."""
    rank = len(writer.shape(index) or ())
    scale, zero = (_spread(writer, i, axis, rank) for i in (index + 1, index + 2))
    numbers = writer.op("Sub", writer.cast(writer.input(index), _FLOAT), zero)
    return writer.op("Mul", numbers, scale)


def _spread(writer: Writer, index: int, axis: int, rank: int) -> onnx_ir.Value:
    """A number, or one for each slice along an axis."""
    value, shape = writer.cast(writer.input(index), _FLOAT), writer.shape(index) or ()
    if len(shape) != 1 or shape == (1,):
        return value
    sizes = np.ones(rank, np.int64)
    sizes[axis] = -1
    return writer.op("Reshape", value, writer.constant(sizes))


def _encoded(writer: Writer, value: onnx_ir.Value, index: int) -> onnx_ir.Value:
    scale, zero = (writer.cast(writer.input(i), _FLOAT) for i in (index, index + 1))
    rounded = writer.op("Round", writer.op("Div", value, scale))
    return _clipped(writer, rounded, zero, writer.dtype(index + 1))


def _clipped(
    writer: Writer, rounded: onnx_ir.Value, zero: onnx_ir.Value | None, result: onnx_ir.DataType
) -> onnx_ir.Value:
    limits = np.iinfo(result.numpy())
    shifted = rounded if zero is None else writer.op("Add", rounded, zero)
    low, high = (writer.number(n, _FLOAT) for n in (limits.min, limits.max))
    return writer.cast(writer.op("Clip", shifted, low, high), result)


def _repeated(writer: Writer, index: int) -> onnx_ir.Value | None:
    """Scales or zero points of blocks, once for each element."""
    block, shape, given = writer.integer("block_size", 0), writer.shape(0), writer.shape(index)
    if not block or shape is None or given is None:
        return None
    axis = writer.integer("axis", 1) % len(shape)
    places = np.arange(shape[axis]) // block
    value = writer.cast(writer.input(index), _FLOAT)
    return writer.op("Gather", value, writer.constant(places), axis=axis)


RULES = {
    "DequantizeLinear": dequantize_blocks,
    "QLinearConv": convolution,
    "QLinearMatMul": product,
    "QuantizeLinear": quantize_blocks,
}
