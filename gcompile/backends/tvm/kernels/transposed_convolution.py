"""Transposed convolutions, as one convolution of stride 1 for every phase of the output.

Output row y reads input row i through kernel row k where y + pad = i·stride + k·dilation. The rows
with the same y mod stride use the same kernel rows: they are an ordinary convolution by a part of
the kernel, reversed, whose outputs are written `stride` apart. No product is with a zero between
inputs, and every output is written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tvm.tirx import Buffer, Expr, PrimFunc

from gcompile.backends.tvm.kernels.amx_tiles import Issue, issue_instruction
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.multiply import Multiply, multiplying, unit_functions
from gcompile.backends.tvm.kernels.packing import pack_weights, weight_dtype, weight_shape
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.product import check, part_of_group
from gcompile.backends.tvm.kernels.spec import Image, Kernel, ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile

MOST_PHASES = 36
"""Code is emitted for each phase."""


PartOf = Callable[[Expr], Part]
"""The product of a group of channels."""


@dataclass(frozen=True, slots=True)
class TransposedKernel(Kernel):
    """A transposed convolution with packed constant weights, then the expression.

    Sizes of the input and output are those of `x` and the output image. As for `ProductKernel`,
    integers are multiplied as they are stored. The halo of `x` must hold what `phases` read.

    Attributes:
        kernel_size: Rows and columns of the kernel.
        stride: Outputs from one input to the next, down and across.
        dilation: Outputs from one kernel row or column to the next.
        pads: Output rows cut off at the top, and columns at the left.
        groups: Groups of channels that are convolved on their own.
    """

    x: Image = Image(1, 1, 1, 1)
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    groups: int = 1
    tile: Tile = Tile("generic", 1, 1)


@dataclass(frozen=True, slots=True)
class Phase:
    """The convolution that computes all outputs of one phase.

    Attributes:
        product: The convolution. Its padding may be negative: it then starts inside the image.
        first: Row and column of its first output.
        rows: The kernel rows it uses, in its own order.
        columns: The kernel columns it uses. Without any rows or columns, its one weight is zero.
    """

    product: ProductKernel
    first: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def phases(kernel: TransposedKernel) -> list[Phase]:
    """The convolutions a transposed convolution consists of."""
    down = list(_phases_along(kernel, 0, kernel.output.image.height))
    across = list(_phases_along(kernel, 1, kernel.output.image.width))
    image, output = kernel.x, kernel.output.image
    found = []
    for first_row, rows, row_step, top, out_h in down:
        for first_column, columns, column_step, left, out_w in across:
            contraction = Contraction(
                *(image.batch, image.height, image.width, image.channels),
                *(out_h, out_w, output.channels, max(1, len(rows)), max(1, len(columns))),
                *(1, 1, row_step, column_step, top, left),
                groups=kernel.groups,
            )
            product = ProductKernel(
                output=kernel.output,
                expression=kernel.expression,
                contraction=contraction,
                x=image,
                tile=kernel.tile,
            )
            found.append(Phase(product, (first_row, first_column), rows, columns))
    return found


def _phases_along(
    kernel: TransposedKernel, axis: int, size: int
) -> Iterator[tuple[int, tuple[int, ...], int, int, int]]:
    """Along one axis: (first output, kernel rows used, their distance, padding, outputs)."""
    stride, dilation, pad = kernel.stride[axis], kernel.dilation[axis], kernel.pads[axis]
    for first in range(min(stride, size)):
        used = tuple(
            tap
            for tap in reversed(range(kernel.kernel_size[axis]))
            if (first + pad - tap * dilation) % stride == 0
        )
        start = (first + pad - used[0] * dilation) // stride if used else 0
        step = dilation // math.gcd(dilation, stride)
        yield first, used, step, -start, -(-(size - first) // stride)


def needed_halo(kernel: TransposedKernel) -> tuple[int, int, int, int]:
    """How far beyond the input its windows reach, at the top, left, bottom and right."""
    reach = [(0, 0, 0, 0)]
    for phase in phases(kernel):
        sizes = phase.product.contraction
        bottom = sizes.out_h - 1 + (sizes.kernel_h - 1) * sizes.dilation_h - sizes.pad_top
        right = sizes.out_w - 1 + (sizes.kernel_w - 1) * sizes.dilation_w - sizes.pad_left
        after = bottom + 1 - kernel.x.height, right + 1 - kernel.x.width
        reach.append((sizes.pad_top, sizes.pad_left, *after))
    top, left, bottom, right = (max(side) for side in zip(*reach, strict=True))
    return top, left, bottom, right


def pack_transposed(
    kernel: TransposedKernel, weights: npt.NDArray[np.generic]
) -> list[npt.NDArray[np.generic]]:
    """Pack constant weights: one array for each phase.

    Args:
        kernel: The kernel that will read them.
        weights: (in, out / groups, kernel_h, kernel_w), of the types `pack_weights` takes.
    """
    by_group = np.split(weights, kernel.groups)
    ordered = np.concatenate([group.swapaxes(0, 1) for group in by_group])
    packed = []
    for phase in phases(kernel):
        if phase.rows and phase.columns:
            part = ordered[:, :, list(phase.rows)][:, :, :, list(phase.columns)]
        else:
            sizes = phase.product.contraction
            part = np.zeros((*ordered.shape[:2], sizes.kernel_h, sizes.kernel_w), weights.dtype)
        packed.append(pack_weights(phase.product, part))
    return packed


def emit(kernel: TransposedKernel, name: str, issue: Issue = issue_instruction) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel, issue).function(name)


def code(kernel: TransposedKernel, issue: Issue = issue_instruction) -> Code:
    """Emit a transposed convolution.

    The function's arguments are x, the packed weights of every phase, the channel vectors, the
    sources and the output. The tile's own number of threads is used.

    Raises:
        CompileError: There are too many phases, the unit cannot carry them, or the halo of x is
            too narrow.
        UnknownNameError: There is no such unit.
    """
    unit, tile, found = unit_named(kernel.tile.unit), kernel.tile, phases(kernel)
    if len(found) > MOST_PHASES:
        raise CompileError(f"A stride of {kernel.stride} needs code for {len(found)} phases.")
    leading = [Argument.of_image("x", kernel.x)]
    for index, phase in enumerate(found):
        check(phase.product, unit)
        shape = weight_shape(phase.product)
        leading.append(Argument(f"weights{index}", shape, weight_dtype(phase.product)))

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], (kernel.x.size,))
        shared = Multiplication(kernel, tile, unit, x, tensors)

        def task(index: Expr) -> None:
            fill_halo(kernel.output.image, tensors.output, unit.vector_bits, index, tile.threads)
            for phase, weights in zip(found, buffers[1:], strict=True):
                part = _parts(kernel, phase, weights)
                with multiplying(shared, part(0), issue) as multiply:
                    emit_groups(kernel.groups, part, multiply, index)

        def emit_groups(groups: int, part: PartOf, multiply: Multiply, index: Expr) -> None:
            if groups == 1:
                multiply(part(0), index, tile.threads)
            else:
                loop(0, groups, lambda group: multiply(part(group), index, tile.threads))

        with unit_functions(unit):
            tasks(tile.threads, task)

    return kernel_code(kernel, leading, body)


def _parts(kernel: TransposedKernel, phase: Phase, weights: Buffer) -> PartOf:
    """A function from a group to its product."""
    (down, across), (first_row, first_column) = kernel.stride, phase.first

    def part(group: Expr) -> Part:
        plain = part_of_group(phase.product, unit_named(kernel.tile.unit), weights, group)

        def placed(position: Position) -> Position:
            y, x = position.y * down + first_row, position.x * across + first_column
            return plain.placed(replace(position, y=y, x=x))

        return replace(plain, placed=placed)

    return part
