"""Chains of elementwise operators, quantize, dequantize and casts."""

from __future__ import annotations

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import ElementwiseKernel, Load, TransposeKernel
from gcompile.backends.tvm.lowering.expressions import RegionExpression, is_total, read_region
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image
from gcompile.backends.tvm.lowering.placement import Layout, Placement, is_padded


def lower_elementwise(region: ir.Region, memory: Memory) -> None:
    """Emit a region without a product or a pool."""
    layout = _elementwise_layout(region, memory)
    body = read_region(region, layout)
    if layout is Layout.CHANNELS_LAST and _is_move(body) and _try_transpose(body, memory):
        return
    image = output_image(memory, body.output, layout)
    finished = finish(memory, body, image, layout)
    threads = region.tile.threads if region.tile else 1
    kernel = ElementwiseKernel(**finished.kernel, **memory.emission.shared(threads))
    var = memory.emission.call(kernel, finished.operands, image)
    memory.put(body.output, Placement(var, layout, image))


def _elementwise_layout(region: ir.Region, memory: Memory) -> Layout:
    output = region.outputs[0] if region.outputs else None
    if output is None or len(ir.static_shape(output)) not in (3, 4):
        return Layout.ROWS
    shape = ir.static_shape(output)
    if is_padded(shape) and not all(is_total(node) for node in region.nodes):
        return Layout.ROWS
    wide = [v for v in region.inputs if not ir.is_constant(v) and ir.static_shape(v) == shape]
    lies_last = any(v in memory.images for v in wide)
    return Layout.CHANNELS_LAST if lies_last or output in memory.requests else Layout.ROWS


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
