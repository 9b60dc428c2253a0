"""The order in which a product reads its weights, and how to bring them into it.

Packed weights are (blocks of output channels, steps, lanes · group): one step is what one vector
instruction consumes, and steps follow the image in memory (kernel row, kernel column, channel).
AMX reads the same bytes as 512-bit dot products do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcompile.backends.tvm.kernels.function import Argument
from gcompile.backends.tvm.kernels.spec import ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named


def weight_shape(kernel: ProductKernel) -> tuple[int, int, int]:
    """The shape of the packed weights."""
    unit = unit_named(kernel.tile.unit)
    contraction = kernel.contraction
    depth = contraction.kernel_h * contraction.kernel_w * kernel.x.channels
    steps = depth // unit.group + (1 if unit.signed_dot else 0)
    return -(-contraction.out_c // unit.lanes), steps, unit.lanes * unit.group


def weight_dtype(kernel: ProductKernel) -> str:
    """The element type of the packed weights."""
    return unit_named(kernel.tile.unit).weight_dtype


def leading_arguments(kernel: ProductKernel) -> list[Argument]:
    """What a product reads before the arguments that all kernels share."""
    weights = Argument("weights", weight_shape(kernel), weight_dtype(kernel))
    return [Argument.of_image("x", kernel.x), weights]


def depth_run(kernel: ProductKernel) -> int:
    """Contiguous elements of the input that one window row (or pixel, if dilated) reads."""
    contraction = kernel.contraction
    columns = contraction.kernel_w if contraction.dilation_w == 1 else 1
    return columns * kernel.x.channels


def depth_runs(kernel: ProductKernel) -> list[tuple[int, int]]:
    """The loops over the runs of a window: (how many, elements from one to the next)."""
    contraction, image = kernel.contraction, kernel.x
    down = contraction.dilation_h * image.shape[2] * image.channels
    if contraction.dilation_w == 1:
        return [(contraction.kernel_h, down), (1, 0)]
    across = contraction.dilation_w * image.channels
    return [(contraction.kernel_h, down), (contraction.kernel_w, across)]


def pack_weights(
    kernel: ProductKernel, weights: npt.NDArray[np.generic]
) -> npt.NDArray[np.generic]:
    """Pack constant weights for a kernel.

    Args:
        kernel: The kernel that will read them.
        weights: (out, in, kernel_h, kernel_w) as float32, int8, or bfloat16 bits in uint16.

    Returns:
        An array of `weight_shape` and `weight_dtype`; lanes and channels that do not exist
        are zero.
    """
    unit = unit_named(kernel.tile.unit)
    blocks, _, step_elements = weight_shape(kernel)
    out_c, in_c, kernel_h, kernel_w = weights.shape
    padded_shape = (blocks * unit.lanes, kernel_h, kernel_w, kernel.x.channels)
    padded = np.zeros(padded_shape, weights.dtype)
    padded[:out_c, ..., :in_c] = weights.transpose(0, 2, 3, 1)
    grouped = padded.reshape(blocks, unit.lanes, -1, unit.group).transpose(0, 2, 1, 3)
    packed = np.ascontiguousarray(grouped, dtype=unit.weight_dtype)
    packed = packed.reshape(blocks, -1, step_elements)
    if not unit.signed_dot:
        return packed
    lost = 128 * padded.astype(np.int32).sum(axis=(1, 2, 3), dtype=np.int32)
    last_step = lost.reshape(blocks, 1, unit.lanes).view(unit.weight_dtype)
    return np.concatenate([packed, last_step], axis=1)
