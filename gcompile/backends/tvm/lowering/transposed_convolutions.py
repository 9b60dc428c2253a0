"""Transposed convolutions with constant weights."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary
from gcompile.backends.tvm.kernels.transposed_convolution import (
    MOST_PHASES,
    pack_transposed,
    phases,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.groups import ungrouped
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image, substitute
from gcompile.backends.tvm.lowering.placement import Layout, Placement
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.transposed_windows import transposed_window_of
from gcompile.backends.tvm.lowering.weights import Array, constant_bias, pad_to, real_constant


def lower_transposed_convolution(region: ir.Region, memory: Memory) -> None:
    """Emit the region of a transposed convolution in a float format."""
    window, tile = transposed_window_of(region), region.tile
    if window is None or tile is None:
        raise CannotEmitError("the transposed convolution is not one kernels know")
    node, plain = window.node, window.kernel
    if len(phases(plain)) > MOST_PHASES:
        raise CannotEmitError(f"strides of {plain.stride} need code for every phase")
    unit = unit_named(tile.unit).carrying(1)
    if unit.x_dtype != plain.x.dtype:
        raise CannotEmitError(f"unit {unit.name} does not read {plain.x.dtype}")
    weights, channels = real_constant(node.inputs[1]), plain.output.image.channels
    if weights.ndim == 3:
        weights = weights[:, :, None, :]
    body = read_region(region, Layout.CHANNELS_LAST, node.outputs[0])
    bias = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, channels)
    if bias.any():
        vector = body.add_vector(bias.astype(np.float32))
        body.expression = substitute(body.expression, Binary("add", Accumulator(), vector))
    x = memory.image(window.stored, window.halo)
    image = output_image(memory, body.output, Layout.CHANNELS_LAST)
    finished = finish(memory, body, image, Layout.CHANNELS_LAST)
    kernel = replace(
        plain,
        **finished.kernel,
        **memory.emission.shared(tile.threads),
        x=x.image,
        tile=replace(tile, unit=unit.name),
    )
    is_padded = (x.image.channels, image.channels) != (weights.shape[0], channels)
    if is_padded or weights.shape[0] // kernel.groups % unit.group:
        weights = _whole(weights, kernel.groups)
        weights = pad_to(weights, (x.image.channels, image.channels, *weights.shape[2:]))
        kernel = replace(kernel, groups=1)
    if x.image.channels // kernel.groups % unit.group:
        raise CannotEmitError(f"unit {unit.name} cannot read so few channels")
    stored = weights
    if unit.x_dtype == "bfloat16":
        stored = weights.astype(ml_dtypes.bfloat16).view(np.uint16)
    elif unit.x_dtype == "float16":
        stored = weights.astype(np.float16)
    packed = [memory.emission.constant(part) for part in pack_transposed(kernel, stored)]
    var = memory.emission.call(kernel, [x.var, *packed, *finished.operands], image)
    memory.put(body.output, Placement(var, Layout.CHANNELS_LAST, image))


def _whole(weights: Array, groups: int) -> Array:
    """The weights (in, out / groups, …) of all groups as one group: channels may only pad."""
    by_group = np.split(weights, groups)
    forward = np.concatenate([part.swapaxes(0, 1) for part in by_group])
    return ungrouped(forward, groups).swapaxes(0, 1)
