"""Pools and spatial means."""

from __future__ import annotations

from dataclasses import replace

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Image, PoolKernel
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish
from gcompile.backends.tvm.lowering.placement import (
    DTYPES,
    NO_HALO,
    Layout,
    Placement,
    stored_channels,
)
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.windows import window_of


def lower_pool(region: ir.Region, memory: Memory) -> None:
    """Emit a pool region."""
    window = window_of(region)
    if window is None:
        raise CannotEmitError("the pool's geometry is not one kernels know")
    node, shape = window.node, window.contraction
    layout, body = _pool_expression(region, node)
    image = _pool_image(memory, body.output, layout, shape)
    if stored_channels(shape.in_c) != image.channels:
        raise CannotEmitError("input and output store different numbers of channels")
    halo = window.halo if "Max" in node.op_type else NO_HALO
    x = memory.image(window.stored, halo, window.fill)
    finished = finish(memory, body, image, layout)
    channels = image.channels
    kernel = PoolKernel(
        **finished.kernel,
        **memory.emission.shared(region.tile.threads if region.tile else 1),
        contraction=replace(shape, in_c=channels, out_c=channels, groups=channels),
        x=x.image,
        function="max" if "Max" in node.op_type else "average",
        count_include_pad=bool(node.attributes.get_int("count_include_pad", 0)),
        x_scale=window.scale,
        x_zero_point=window.zero_point,
    )
    var = memory.emission.call(kernel, [x.var, *finished.operands], image)
    memory.put(body.output, Placement(var, layout, image))


def _pool_expression(region: ir.Region, node: ir.Node) -> tuple[Layout, RegionExpression]:
    """A mean that drops its spatial axes gives rows; everything else stays channels last."""
    drops_axes = len(ir.static_shape(node.outputs[0])) == 2
    layout = Layout.ROWS if drops_axes else Layout.CHANNELS_LAST
    return layout, read_region(region, layout, node.outputs[0])


def _pool_image(memory: Memory, output: ir.Value, layout: Layout, shape: ir.Contraction) -> Image:
    if layout is Layout.CHANNELS_LAST:
        return memory.new_image(output)
    dtype = DTYPES[output.dtype or ir.DataType.FLOAT]
    logical = ir.static_shape(output)
    return Image(shape.batch, 1, 1, shape.out_c, dtype, declared=logical)
