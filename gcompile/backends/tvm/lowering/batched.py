"""Products of operands that are computed at run time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.batched import BatchedKernel
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary, Constant, Expression, Image
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, substitute
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.stored_numbers import quantization
from gcompile.backends.tvm.lowering.weights import constant_bias


def lower_batched_product(region: ir.Region, memory: Memory) -> None:
    """Emit a MatMul or Gemm region whose right operand is packed at run time."""
    product, tile, node = region.batched_product, region.tile, region.anchor
    if product is None or node is None:
        raise CannotEmitError("the rows of an operand's matrices are not contiguous")
    if tile is None:
        raise CannotEmitError("the region has no tile")
    unit = unit_named(tile.unit).carrying(1)  # Packing at run time knows no wider groups.
    tile = replace(tile, unit=unit.name)
    (left, left_scale, left_zero), (right, right_scale, right_zero) = (
        _stored(operand, unit) for operand in (product.left, product.right)
    )
    body = read_region(region, Layout.MATRICES, node.outputs[0])
    real = real_product(node, body, left_scale * right_scale)
    body.expression = substitute(body.expression, real)
    image = output_matrices(product, body.output)
    finished = finish(memory, body, image, Layout.MATRICES)
    x, w = memory.tensor(left), memory.tensor(right)
    m, n, k = product.sizes
    right_rows, right_columns = (n, k) if product.right.is_transposed else (k, n)
    right_heads = product.heads if product.right.strides[1] else 1
    kernel = BatchedKernel(
        **finished.kernel,
        **memory.emission.shared(tile.threads),
        left=Matrices(x.image, m, k, product.batch, product.heads, product.left.strides),
        right=Matrices(
            w.image, right_rows, right_columns, product.batch, right_heads, product.right.strides
        ),
        is_transposed=product.right.is_transposed,
        output_in_channels=product.mover is not None,
        zero_points=(left_zero, right_zero),
        tile=tile,
    )
    var = memory.emission.call(kernel, [x.var, w.var, *finished.operands], image)
    result = rows_image(ir.static_shape(body.output), image.dtype)
    memory.put(body.output, Placement(var, Layout.ROWS, result))


def output_matrices(product: ir.BatchedProduct, output: ir.Value) -> Image:
    """The image a batch of products is written to: a line for each head, or heads side by side."""
    (m, n, _), heads = product.sizes, product.heads
    lines, channels = (1, heads * n) if product.mover is not None else (heads, n)
    if output.dtype not in DTYPES:
        raise CannotEmitError(f"the output has type {output.dtype}")
    shape = ir.static_shape(output)
    return Image(product.batch, lines, m, channels, DTYPES[output.dtype], declared=shape)


def _stored(operand: ir.Matrices, unit: Unit) -> tuple[ir.Value, float, int]:
    """The value in memory, and what its integers mean: (value, scale, zero point)."""
    value = operand.stored
    dtype = DTYPES.get(value.dtype or ir.DataType.FLOAT)
    if dtype != unit.x_dtype and not (unit.x_dtype == "uint8" and dtype == "int8"):
        raise CannotEmitError(f"unit {unit.name} does not multiply {value.dtype}")
    if operand.decoder is None or operand.decoder.op_type == "Cast":
        return value, 1.0, 0
    return value, *quantization(operand.decoder)


def real_product(node: ir.Node, body: RegionExpression, scale: float) -> Expression:
    """The real product in terms of the accumulator, with the factors and bias of a Gemm.

    Args:
        node: The MatMul or Gemm.
        body: Takes the bias.
        scale: Of both operands together.
    """
    alpha, beta, channels = 1.0, 1.0, ir.static_shape(node.outputs[0])[-1:]
    bias = None
    if node.op_type == "Gemm":
        alpha = node.attributes.get_float("alpha", 1.0)
        beta = node.attributes.get_float("beta", 1.0)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
    found: Expression = Accumulator()
    if scale * alpha != 1.0:
        found = Binary("mul", found, Constant(scale * alpha))
    if bias is not None:
        vector = constant_bias(bias, *channels) * beta
        found = Binary("add", found, body.add_vector(vector.astype(np.float32)))
    return found
