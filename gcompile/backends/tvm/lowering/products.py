"""Convolutions and matrix products with constant weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.packing import (
    depth_of,
    fitting,
    pack_weights,
    panel_of,
    steps_ahead,
)
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    DepthwiseKernel,
    Expression,
    Image,
    Load,
    ProductKernel,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.kernels.winograd import WinogradKernel
from gcompile.backends.tvm.kernels.winograd import pack_weights as pack_winograd
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.groups import is_narrow, pack_narrow, ungrouped
from gcompile.backends.tvm.lowering.memory import SIGNED_OFFSET, Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image, substitute
from gcompile.backends.tvm.lowering.placement import Layout, Placement, stored_channels
from gcompile.backends.tvm.lowering.region_expression import (
    CannotEmitError,
    RegionExpression,
    SourceValue,
)
from gcompile.backends.tvm.lowering.weights import (
    Array,
    Reals,
    constant_bias,
    constant_weights,
    matrix_weights,
    pad_to,
)
from gcompile.backends.tvm.lowering.windows import stored_input, window_of


@dataclass(frozen=True)
class _Operands:
    """What a product reads.

    Attributes:
        x: The left operand where it lies; `scale` and `zero_point` say what its integers mean.
        weights: (out, in, kernel_h, kernel_w) as stored; `scales` per output channel.
        found: The scale and the zero point of `x` where they are found at run time.
    """

    contraction: ir.Contraction
    x: Placement
    scale: float
    zero_point: int
    weights: Array
    scales: Reals
    bias: Reals
    found: tuple[SourceValue, SourceValue] | None = None

    @property
    def real_weights(self) -> Array:
        """The weights as float32."""
        scales = self.scales.astype(np.float32).reshape(-1, 1, 1, 1)
        return self.weights.astype(np.float32) * scales


def lower_convolution(region: ir.Region, memory: Memory) -> None:
    """Emit a convolution region: dense, grouped or depthwise."""
    window = window_of(region)
    if window is None:
        raise CannotEmitError("the convolution's geometry is not one kernels know")
    node, shape = window.node, window.contraction
    weights, scales = constant_weights(node.inputs[1])
    if weights.ndim == 3:
        weights = weights[:, :, None, :]
    bias = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
    body = read_region(region, Layout.CHANNELS_LAST, node.outputs[0])
    decoder, found = _dynamic_decoder(region, node), None
    if decoder is not None:
        if any(node.attributes.get_ints("pads", [])):
            raise CannotEmitError("what its padding stands for is found at run time")
        found = _found(decoder)
    x = memory.image(window.stored, window.halo, window.fill)
    operands = _Operands(shape, x, window.scale, window.zero_point, weights, scales, bias, found)
    if shape.is_depthwise:
        _emit_depthwise(region, memory, body, operands)
    elif region.tile is not None and region.tile.winograd:
        _emit_winograd(region.tile, memory, body, operands)
    elif shape.groups > 1:
        _emit_grouped(region, memory, body, operands)
    else:
        _emit_product(region, memory, body, Layout.CHANNELS_LAST, operands)


def lower_matrix_product(region: ir.Region, memory: Memory) -> None:
    """Emit a Gemm or MatMul region whose right operand is constant."""
    node = region.anchor
    assert node is not None
    weights, scales = matrix_weights(node)
    decoder = _dynamic_decoder(region, node)
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    found = _found(decoder) if decoder is not None else None
    shape = ir.contraction_of(node)
    if shape is None or shape.batch != 1 or node.attributes.get_int("transA", False):
        raise CannotEmitError("the left operand is transposed or batched")
    bias = np.zeros(shape.out_c)
    if node.op_type == "Gemm":
        scales = scales * node.attributes.get_float("alpha", 1.0)
        addend = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
        bias = addend * node.attributes.get_float("beta", 1.0)
    body = read_region(region, Layout.ROWS, node.outputs[0])
    x = rows_of_pixels(memory, stored, shape)
    operands = _Operands(shape, x, scale, zero_point, weights, scales, bias, found)
    _emit_product(region, memory, body, Layout.ROWS, operands)


def _dynamic_decoder(region: ir.Region, product: ir.Node) -> ir.Node | None:
    """What decodes the left operand with a scale that is found at run time."""
    decoder = product.inputs[0].producer() if product.inputs[0] is not None else None
    if decoder is None or decoder not in region.nodes:
        return None
    return decoder if ir.dynamic_quantizer(decoder) is not None else None


def _found(decoder: ir.Node) -> tuple[SourceValue, SourceValue]:
    """The scale and the zero point."""
    scale, zero_point = (value for value in decoder.inputs[1:] if value is not None)
    return SourceValue(scale), SourceValue(zero_point)


def rows_of_pixels(memory: Memory, stored: ir.Value, shape: ir.Contraction) -> Placement:
    """The left operand of a matrix product as the image (1, 1, M, K), K padded for byte dots."""
    placement = memory.tensor(stored)
    group = {"uint8": 4, "int8": 4, "bfloat16": 2}.get(placement.image.dtype, 1)
    padding = -shape.in_c % group
    if not padding:
        image = Image(1, 1, shape.m, shape.in_c, placement.image.dtype, declared=placement.shape)
        return replace(placement, image=image)
    rank = len(ir.static_shape(stored))
    pad = [0] * (2 * rank - 1) + [padding]
    var = memory.emission.emit(relax.op.nn.pad(memory.plain(stored), pad, "constant", 0))
    declared = (*ir.static_shape(stored)[:-1], shape.in_c + padding)
    image = Image(1, 1, shape.m, shape.in_c + padding, placement.image.dtype, declared=declared)
    return Placement(var, Layout.ROWS, image)


def _emit_product(
    region: ir.Region,
    memory: Memory,
    body: RegionExpression,
    layout: Layout,
    operands: _Operands,
) -> None:
    tile = region.tile
    if tile is None:
        raise CannotEmitError("the region has no tile")
    unit = unit_named(tile.unit)
    if (operands.x.image.dtype, unit.x_dtype) == ("int8", "uint8"):
        raised = memory.unsigned(operands.x)
        operands = replace(operands, x=raised, zero_point=operands.zero_point + SIGNED_OFFSET)
    x = operands.x
    if unit.x_dtype != x.image.dtype:
        raise CannotEmitError(f"unit {unit.name} does not read {x.image.dtype}")
    weights = _weights_for(unit.x_dtype, operands)
    body.expression = substitute(body.expression, _real_product(body, operands))
    image = output_image(memory, body.output, layout)
    finished = finish(memory, body, image, layout)
    shape = replace(operands.contraction, in_c=x.image.channels, out_c=image.channels)
    kernel = fitting(
        ProductKernel(
            **finished.kernel,
            **memory.emission.shared(tile.threads),
            contraction=shape,
            x=x.image,
            tile=tile,
        )
    )
    if depth_of(kernel).run % unit_named(kernel.tile.unit).group:
        raise CannotEmitError(f"unit {unit.name} cannot read so few channels of a group")
    cache_bytes = memory.emission.cache_bytes
    kernel = replace(
        kernel, panel=panel_of(kernel, cache_bytes), ahead=steps_ahead(kernel, cache_bytes)
    )
    depth = shape.in_c // shape.groups
    weights = pad_to(weights, (shape.out_c, depth, shape.kernel_h, shape.kernel_w))
    packed = memory.emission.constant(pack_weights(kernel, weights))
    var = memory.emission.call(kernel, [x.var, packed, *finished.operands], image)
    memory.put(body.output, Placement(var, layout, image))


def _emit_winograd(
    tile: ir.Tile, memory: Memory, body: RegionExpression, operands: _Operands
) -> None:
    body.expression = substitute(body.expression, _real_product(body, operands))
    image = output_image(memory, body.output, Layout.CHANNELS_LAST)
    finished = finish(memory, body, image, Layout.CHANNELS_LAST)
    x, sizes = operands.x.image, operands.contraction
    kernel = WinogradKernel(
        **finished.kernel,
        **memory.emission.shared(tile.threads),
        contraction=replace(sizes, in_c=x.channels, out_c=image.channels),
        x=x,
        tile=tile,
    )
    packed = memory.emission.constant(pack_winograd(kernel, operands.real_weights))
    var = memory.emission.call(kernel, [operands.x.var, packed, *finished.operands], image)
    memory.put(body.output, Placement(var, Layout.CHANNELS_LAST, image))


def _weights_for(dtype: str, operands: _Operands) -> Array:
    if dtype == "uint8":
        if operands.weights.dtype != np.int8:
            raise CannotEmitError("the input is quantized and the weight is not")
        return operands.weights
    if dtype == "bfloat16":
        return operands.real_weights.astype(ml_dtypes.bfloat16).view(np.uint16)
    return operands.real_weights.astype(dtype)


def _emit_grouped(
    region: ir.Region, memory: Memory, body: RegionExpression, operands: _Operands
) -> None:
    """Groups narrower than a vector share vectors; wider ones are a product each."""
    shape, tile = operands.contraction, region.tile
    if operands.x.image.channels != shape.in_c or stored_channels(shape.out_c) != shape.out_c:
        # Channels that only pad belong to no group.
        whole = ungrouped(operands.weights, shape.groups)
        operands = replace(operands, contraction=replace(shape, groups=1), weights=whole)
    elif tile is not None and is_narrow(shape, unit_named(tile.unit), operands.x.image.dtype):
        _emit_narrow(region, memory, body, operands)
        return
    _emit_product(region, memory, body, Layout.CHANNELS_LAST, operands)


def _emit_depthwise(
    region: ir.Region, memory: Memory, body: RegionExpression, operands: _Operands
) -> None:
    """Channels that only pad are groups of their own."""
    shape, channels = operands.contraction, operands.x.image.channels
    if channels != memory.new_image(body.output).channels:
        raise CannotEmitError("input and output store different numbers of channels")
    padded = replace(shape, in_c=channels, out_c=channels, groups=channels)
    _emit_narrow(region, memory, body, operands, padded)


def _emit_narrow(
    region: ir.Region,
    memory: Memory,
    body: RegionExpression,
    operands: _Operands,
    stored: ir.Contraction | None = None,
) -> None:
    x, shape = operands.x, stored or operands.contraction
    body.expression = substitute(body.expression, _real_product(body, operands))
    image = output_image(memory, body.output, Layout.CHANNELS_LAST)
    finished = finish(memory, body, image, Layout.CHANNELS_LAST)
    kernel = DepthwiseKernel(
        **finished.kernel,
        **memory.emission.shared(region.tile.threads if region.tile else 1),
        contraction=shape,
        x=x.image,
    )
    is_integer = x.image.dtype in ("uint8", "int8")
    taps = operands.weights.astype(np.float32) if is_integer else operands.real_weights
    packed = memory.emission.constant(pack_narrow(shape, taps))
    var = memory.emission.call(kernel, [x.var, packed, *finished.operands], image)
    memory.put(body.output, Placement(var, Layout.CHANNELS_LAST, image))


def _real_product(body: RegionExpression, operands: _Operands) -> Expression:
    """The real product in terms of the accumulator: sum · S + B, the zero point folded into B."""
    bias = operands.bias
    if operands.x.image.dtype not in ("uint8", "int8"):
        if not bias.any():
            return Accumulator()
        return Binary("add", Accumulator(), body.add_vector(bias.astype(np.float32)))
    if operands.found is not None:
        return _dynamic_product(body, operands, operands.found)
    factor = operands.scales * operands.scale
    sums = operands.weights.astype(np.float64).sum(axis=(1, 2, 3))
    offset = bias - operands.zero_point * sums * factor
    scaled = Binary("mul", Accumulator(), body.add_vector(factor.astype(np.float32)))
    return Binary("add", scaled, body.add_vector(offset.astype(np.float32)))


def _dynamic_product(
    body: RegionExpression, operands: _Operands, found: tuple[SourceValue, SourceValue]
) -> Expression:
    """The same with scale s and zero point z of run time: (sum - z · W) · (s · S) + bias."""
    scale, zero_point = (Load(len(body.sources)), Load(len(body.sources) + 1))
    body.sources.extend(found)
    sums = operands.weights.astype(np.float64).sum(axis=(1, 2, 3)).astype(np.float32)
    missed = Binary("mul", zero_point, body.add_vector(sums))
    factor = Binary("mul", scale, body.add_vector(operands.scales.astype(np.float32)))
    real = Binary("mul", Binary("sub", Accumulator(), missed), factor)
    if not operands.bias.any():
        return real
    return Binary("add", real, body.add_vector(operands.bias.astype(np.float32)))
