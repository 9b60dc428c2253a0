"""The order in which a product reads its weights, and how to bring them into it.

Packed weights are (blocks of output channels, steps, lanes · group): one step is what one vector
instruction consumes, and steps follow the image in memory (kernel row, kernel column, channel).
AMX reads the same bytes as 512-bit dot products do.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gcompile.backends.tvm.kernels.function import Argument
from gcompile.backends.tvm.kernels.parts import Depth
from gcompile.backends.tvm.kernels.spec import Panel, ProductKernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named

_PANEL_BYTES = 2048
"""Depth of a panel: a block of eight pixels then takes a third of a first-level cache."""

_TILE_PANEL_BYTES = 512
"""The same for AMX, whose blocks are 32 pixels high."""

_LARGE = 8
"""Sizes of the second-level cache that both operands must exceed for panels to pay on vectors."""

_AHEAD = 16
"""Steps of depth, each a cache line on the widest units."""


def weight_shape(kernel: ProductKernel) -> tuple[int, int, int]:
    """The shape of the packed weights. Each group of a grouped convolution has its own blocks."""
    unit = unit_named(kernel.tile.unit)
    contraction = kernel.contraction
    depth = contraction.kernel_h * contraction.kernel_w * kernel.x.channels // contraction.groups
    steps = depth // unit.group + (1 if unit.signed_dot else 0)
    blocks = -(-contraction.out_c // contraction.groups // unit.lanes)
    return contraction.groups * blocks, steps, unit.lanes * unit.group


def weight_dtype(kernel: ProductKernel) -> str:
    """The element type of the packed weights."""
    return unit_named(kernel.tile.unit).weight_dtype


def leading_arguments(kernel: ProductKernel) -> list[Argument]:
    """What a product reads before the arguments that all kernels share."""
    weights = Argument("weights", weight_shape(kernel), weight_dtype(kernel))
    return [Argument.of_image("x", kernel.x), weights]


def depth_of(kernel: ProductKernel) -> Depth:
    """What one output pixel reads: a row of its window is one run where it is contiguous."""
    contraction, image = kernel.contraction, kernel.x
    down = contraction.dilation_h * image.shape[2] * image.channels
    channels = image.channels // contraction.groups
    rows = (contraction.kernel_h, down)
    if contraction.kernel_w == 1 or (contraction.dilation_w == 1 and contraction.groups == 1):
        return Depth(contraction.kernel_w * channels, rows)
    across = contraction.dilation_w * image.channels
    return Depth(channels, rows, (contraction.kernel_w, across))


def fitting(kernel: ProductKernel) -> ProductKernel:
    """The kernel, on a narrower unit where its depth does not fill the groups of its own."""
    unit = unit_named(kernel.tile.unit).carrying(depth_of(kernel).run)
    return replace(kernel, tile=replace(kernel.tile, unit=unit.name))


def panel_of(kernel: ProductKernel, cache_bytes: int) -> Panel | None:
    """Cache blocks for a product, given the size of a core's second-level cache.

    None where a pass over the whole depth is at least as fast: on vector units unless input and
    weights are both several times as large as the cache, on AMX while the weights fit it. Windows
    of more than one pixel have no panels: the rows of such a product overlap, and stay in the
    cache by themselves.
    """
    unit, depth, contraction = unit_named(kernel.tile.unit), depth_of(kernel), kernel.contraction
    element_bytes = unit.weight_bytes
    panel_bytes = _TILE_PANEL_BYTES if unit.is_tiled else _PANEL_BYTES
    is_short = depth.run * element_bytes <= panel_bytes
    if is_short or depth.rows[0] * depth.columns[0] > 1:
        return None
    weight_bytes = contraction.k * contraction.n * element_bytes
    if unit.is_tiled:
        columns = cache_bytes // 8 // panel_bytes
        rows = cache_bytes // 16 // columns
        is_small = 2 * weight_bytes <= cache_bytes or contraction.m < rows
    else:
        columns = cache_bytes // 2 // panel_bytes
        rows = cache_bytes // 16 // columns
        x_bytes = contraction.k * contraction.m * element_bytes
        is_small = min(x_bytes, weight_bytes) < _LARGE * cache_bytes
    return None if is_small else Panel(max(1, rows), columns, panel_bytes // element_bytes)


def steps_ahead(kernel: ProductKernel, cache_bytes: int) -> int:
    """How far ahead a product asks for its weights, given the size of a core's own cache.

    0 unless it reads each weight once, from memory beyond that cache: where rows share weights,
    the hardware asks in time.
    """
    contraction, unit = kernel.contraction, unit_named(kernel.tile.unit)
    size = math.prod(weight_shape(kernel)) * unit.weight_bytes
    is_read_once = contraction.m == contraction.out_w <= kernel.tile.rows and not unit.is_tiled
    return _AHEAD if is_read_once and size > cache_bytes else 0


def pack_weights(
    kernel: ProductKernel, weights: npt.NDArray[np.generic]
) -> npt.NDArray[np.generic]:
    """Pack constant weights for a kernel.

    Args:
        kernel: The kernel that will read them.
        weights: (out, in / groups, kernel_h, kernel_w) as float32, int8, or bfloat16 bits in
            uint16.

    Returns:
        An array of `weight_shape` and `weight_dtype`; lanes and channels that do not exist
        are zero.
    """
    unit, groups = unit_named(kernel.tile.unit), kernel.contraction.groups
    channels = kernel.x.channels // groups
    return np.concatenate([_pack(unit, channels, part) for part in np.split(weights, groups)])


def _pack(unit: Unit, channels: int, weights: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    out_c, in_c, kernel_h, kernel_w = weights.shape
    blocks = -(-out_c // unit.lanes)
    padded = np.zeros((blocks * unit.lanes, kernel_h, kernel_w, channels), weights.dtype)
    padded[:out_c, ..., :in_c] = weights.transpose(0, 2, 3, 1)
    grouped = padded.reshape(blocks, unit.lanes, -1, unit.group).transpose(0, 2, 1, 3)
    packed = np.ascontiguousarray(grouped, dtype=unit.weight_dtype)
    packed = packed.reshape(blocks, -1, unit.lanes * unit.group)
    if not unit.signed_dot:
        return packed
    lost = 128 * padded.astype(np.int32).sum(axis=(1, 2, 3), dtype=np.int32)
    last_step = lost.reshape(blocks, 1, unit.lanes).view(unit.weight_dtype)
    return np.concatenate([packed, last_step], axis=1)
