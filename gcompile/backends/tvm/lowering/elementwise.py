"""Chains of elementwise operators, quantize, dequantize and casts."""

from __future__ import annotations

import math

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import ElementwiseKernel, Load, TransposeKernel
from gcompile.backends.tvm.lowering.expressions import is_total, read_region
from gcompile.backends.tvm.lowering.grids import Grid
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image
from gcompile.backends.tvm.lowering.placement import (
    DTYPES,
    Layout,
    Placement,
    is_padded,
    rows_image,
)
from gcompile.backends.tvm.lowering.region_expression import RegionExpression


def lower_elementwise(region: ir.Region, memory: Memory) -> None:
    """Emit a region without a product or a pool."""
    layout = _elementwise_layout(region, memory)
    if layout is Layout.GRID:
        _lower_grid(region, memory)
        return
    body = read_region(region, layout)
    if layout is Layout.CHANNELS_LAST and _is_move(body) and _try_transpose(body, memory):
        return
    image = output_image(memory, body.output, layout)
    finished = finish(memory, body, image, layout)
    threads = region.tile.threads if region.tile else 1
    kernel = ElementwiseKernel(**finished.kernel, **memory.emission.shared(threads))
    var = memory.emission.call(kernel, finished.operands, image)
    memory.put(body.output, Placement(var, layout, image))


def _lower_grid(region: ir.Region, memory: Memory) -> None:
    """Operands are broadcast along axes before the last one."""
    body = read_region(region, Layout.GRID)
    shape, dtype = ir.static_shape(body.output), DTYPES[body.output.dtype or ir.DataType.FLOAT]
    grid = Grid.of(shape, [ir.static_shape(source.value) for source in body.sources])
    image = grid.image(dtype)
    finished = finish(memory, body, image, Layout.GRID, grid)
    threads = region.tile.threads if region.tile else 1
    kernel = ElementwiseKernel(**finished.kernel, **memory.emission.shared(threads))
    var = memory.emission.call(kernel, finished.operands, image)
    memory.put(body.output, Placement(var, Layout.ROWS, rows_image(shape, dtype)))


def _elementwise_layout(region: ir.Region, memory: Memory) -> Layout:
    output = region.outputs[0] if region.outputs else None
    if output is None:
        return Layout.ROWS
    shape = ir.static_shape(output)
    rows = Layout.ROWS if all(_fits_rows(v, shape) for v in region.inputs) else Layout.GRID
    if len(shape) not in (3, 4) or not all(_fits_image(v, shape) for v in region.inputs):
        return rows
    if is_padded(shape) and not all(is_total(node) for node in region.nodes):
        return rows
    wide = [v for v in region.inputs if not ir.is_constant(v) and ir.static_shape(v) == shape]
    lies_last = any(v in memory.images for v in wide)
    return Layout.CHANNELS_LAST if lies_last or output in memory.requests else rows


def _fits_rows(value: ir.Value, shape: tuple[int, ...]) -> bool:
    """One number, one for each element of the last axis, or all."""
    own = ir.static_shape(value)
    is_vector = own[-1:] == shape[-1:] and math.prod(own[:-1]) == 1
    return math.prod(own) == 1 or is_vector or (1,) * (len(shape) - len(own)) + own == shape


def _fits_image(value: ir.Value, shape: tuple[int, ...]) -> bool:
    """What is computed has all axes of an image; constants are one number, or one per channel."""
    own = ir.static_shape(value)
    if not ir.is_constant(value):
        return math.prod(own) == 1 or len(own) == len(shape)
    aligned = (1,) * (len(shape) - len(own)) + own
    return math.prod(own) == 1 or math.prod(own) == aligned[1]


def _is_move(body: RegionExpression) -> bool:
    """The region only converts one value: a quantize, a dequantize or a cast."""
    return isinstance(body.expression, Load) and len(body.sources) == 1


def _try_transpose(body: RegionExpression, memory: Memory) -> bool:
    """Convert and change layout in one kernel, where the value lies in its logical order."""
    source = body.sources[0]
    if source.value in memory.images or len(ir.static_shape(body.output)) not in (3, 4):
        return False
    if (source.scale, source.zero_point) != (1.0, 0):
        return False
    stored, image = memory.tensor(source.value), memory.new_image(body.output)
    is_quantize = image.dtype == "uint8" and stored.image.dtype == "float32"
    if not is_quantize and image.dtype != "bfloat16":
        return False
    batch, channels, *spatial = ir.static_shape(body.output)
    height, width = (1, *spatial)[-2:]
    kernel = TransposeKernel(
        plain_shape=(batch, channels, height, width),
        plain_dtype=stored.image.dtype,
        image=image,
        to_image=True,
        scale=body.out_scale,
        zero_point=body.out_zero_point,
        declared_plain=stored.shape,
        **memory.emission.shared(),
    )
    var = memory.emission.call(kernel, [stored.var], image)
    memory.put(body.output, Placement(var, Layout.CHANNELS_LAST, image))
    return True
