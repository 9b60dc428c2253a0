"""Products with constant weights, read from the graph: sizes, operands and what sums mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gcompile import ir
from gcompile.backends.cuda.lowering.anchor import Operand
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary, Constant, Expression
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.weights import (
    Array,
    Reals,
    constant_bias,
    constant_weights,
    matrix_weights,
)
from gcompile.backends.tvm.lowering.windows import stored_input


@dataclass(frozen=True)
class Reading:
    """What a region multiplies.

    Attributes:
        weights: (out, in, kernel_h, kernel_w) as stored; `scales` per output channel.
    """

    contraction: ir.Contraction
    stored: ir.Value
    scale: float
    zero_point: int
    weights: Array
    scales: Reals
    bias: Reals
    layout: Layout
    product: ir.Value


def read_convolution(region: ir.Region, node: ir.Node) -> Reading:
    """Read a convolution with constant weights.

    Raises:
        CannotEmitError: Its geometry or its operands are not ones kernels know.
    """
    shape = ir.contraction_of(node)
    if shape is None or len(ir.static_shape(node.inputs[0])) != 4:
        raise CannotEmitError("the convolution's geometry is not one kernels know")
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    weights, scales = constant_weights(node.inputs[1])
    bias = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
    return Reading(
        shape,
        stored,
        scale,
        zero_point,
        weights,
        scales,
        bias,
        Layout.CHANNELS_LAST,
        node.outputs[0],
    )


def read_matrix(region: ir.Region, node: ir.Node) -> Reading:
    """Read a matrix product with constant weights.

    Raises:
        CannotEmitError: The left operand is transposed or batched.
    """
    shape = ir.contraction_of(node)
    if shape is None or shape.batch != 1 or node.attributes.get_int("transA", False):
        raise CannotEmitError("the left operand is transposed or batched")
    weights, scales = matrix_weights(node)
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    bias = np.zeros(shape.out_c)
    if node.op_type == "Gemm":
        scales = scales * node.attributes.get_float("alpha", 1.0)
        addend = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
        bias = addend * node.attributes.get_float("beta", 1.0)
    return Reading(
        shape,
        stored,
        scale,
        zero_point,
        weights,
        scales,
        bias,
        Layout.ROWS,
        node.outputs[0],
    )


def real_product(body: RegionExpression, reading: Reading) -> Expression:
    """The real product in terms of the sum: sum · S + B, the zero point folded into B."""
    bias = reading.bias
    if reading.stored.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        if not bias.any():
            return Accumulator()
        return Binary("add", Accumulator(), body.add_vector(bias.astype(np.float32)))
    factor = reading.scales * reading.scale
    sums = reading.weights.astype(np.float64).sum(axis=(1, 2, 3))
    offset = bias - reading.zero_point * sums * factor
    scaled = Binary("mul", Accumulator(), body.add_vector(factor.astype(np.float32)))
    return Binary("add", scaled, body.add_vector(offset.astype(np.float32)))


def real_number(scale: float, zero_point: int) -> Expression:
    """The real number that a stored one is: (stored - zero point) · scale."""
    real: Expression = Accumulator()
    if zero_point:
        real = Binary("sub", real, Constant(float(zero_point)))
    return real if scale == 1.0 else Binary("mul", real, Constant(scale))


def left_operand(reading: Reading, whole: int) -> Operand:
    """Channels are filled up to multiples of `whole`; a border that is not zeros is put around."""
    shape = reading.contraction
    channels = -(-shape.in_c // whole) * whole
    operand = Operand(reading.stored, reading.layout, channels)
    if reading.zero_point and any(shape.pads):
        return replace(operand, border=shape.pads, fill=reading.zero_point)
    return operand


def within_border(shape: ir.Contraction, border: tuple[int, int, int, int]) -> ir.Contraction:
    """The same convolution where the image already has this border (top, left, bottom, right)."""
    if not any(border):
        return shape
    top, left, bottom, right = border
    return replace(
        shape,
        in_h=shape.in_h + top + bottom,
        in_w=shape.in_w + left + right,
        pad_top=0,
        pad_left=0,
        pad_bottom=0,
        pad_right=0,
    )
