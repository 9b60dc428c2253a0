"""Convolutions and matrix products with constant weights, as implicit matrix products.

In NHWC order the kernel columns and channels of a pixel are contiguous, so depth is one run per
kernel row, and neither an im2col copy nor a bounds check is needed. A grouped convolution is one
product for each group, which reads and writes a slice of the channels.
"""

from __future__ import annotations

from tvm.tirx import Buffer, Expr, PrimFunc

from gcompile.backends.tvm.kernels import amx
from gcompile.backends.tvm.kernels.amx_tiles import (
    Issue,
    issue_instruction,
    pixels_per_tile,
)
from gcompile.backends.tvm.kernels.function import (
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import fill_halo
from gcompile.backends.tvm.kernels.multiply import multiplying, unit_functions
from gcompile.backends.tvm.kernels.packing import (
    depth_of,
    leading_arguments,
    weight_shape,
)
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import ProductKernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.errors import CompileError


def emit(kernel: ProductKernel, name: str, issue: Issue = issue_instruction) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel, issue).function(name)


def code(kernel: ProductKernel, issue: Issue = issue_instruction) -> Code:
    """Emit a product for the unit its tile names.

    The function's arguments are x, the packed weights (see `packing`), the channel vectors, the
    sources and the output. The tile's own number of threads is used.

    Args:
        kernel: What to compute. A tile unit counts its registers in `tile.rows` and `columns`.
        issue: Emits one tile instruction; tests put an emulation here.

    Raises:
        CompileError: The unit cannot carry this product.
        UnknownNameError: There is no such unit.
    """
    unit = unit_named(kernel.tile.unit)
    check(kernel, unit)
    tile = kernel.tile

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], (kernel.x.size,))
        shared = Multiplication(
            kernel, tile, unit, x, tensors, kernel.panel, kernel.ahead, asks_for_next=True
        )
        groups = kernel.contraction.groups

        def part(group: Expr) -> Part:
            return part_of_group(kernel, unit, buffers[1], group)

        def task(index: Expr) -> None:
            fill_halo(kernel.output.image, tensors.output, unit.vector_bits, index, tile.threads)
            with multiplying(shared, part(0), issue) as multiply:
                if groups == 1:
                    multiply(part(0), index, tile.threads)
                elif tile.split == "n":
                    loop(*share(groups, index, tile.threads), lambda g: multiply(part(g), 0, 1))
                else:
                    loop(0, groups, lambda g: multiply(part(g), index, tile.threads))

        with unit_functions(unit):
            tasks(tile.threads, task)

    return kernel_code(kernel, leading_arguments(kernel), body)


def part_of_group(kernel: ProductKernel, unit: Unit, weights: Buffer, group: Expr) -> Part:
    """The product of one group of channels."""
    contraction = kernel.contraction
    channels = contraction.out_c // contraction.groups
    rows = kernel.tile.rows
    if unit.is_tiled:
        rows = pixels_per_tile(contraction.out_w, kernel.tile.flat)
    return Part(
        pixels=Pixels.of(kernel, rows),
        depth=depth_of(kernel),
        channels=channels,
        weights=weights,
        first_block=group * (weight_shape(kernel)[0] // contraction.groups),
        origin=group * (kernel.x.channels // contraction.groups),
        placed=lambda position: position.moved(group * channels),
    )


def check(kernel: ProductKernel, unit: Unit) -> None:
    """Refuse what the unit cannot carry.

    Raises:
        CompileError: With the reason.
    """
    if kernel.x.dtype != unit.x_dtype:
        raise CompileError(
            f"Unit {unit.name!r} reads {unit.x_dtype}, but the input is {kernel.x.dtype}; "
            "choose a unit of the region's precision."
        )
    groups = kernel.contraction.groups
    if groups > 1 and kernel.x.channels != kernel.contraction.in_c:
        raise CompileError("The input of a grouped contraction cannot have padded channels.")
    run = depth_of(kernel).run
    if run % unit.group:
        raise CompileError(
            f"Unit {unit.name!r} reads depth in groups of {unit.group}, but a run of the input "
            f"has {run} elements; store the input with padded channels."
        )
    reason = amx.refuses_tile(kernel.tile) if unit.is_tiled else None
    if reason is not None:
        raise CompileError(f"AMX cannot carry this product: {reason}.")
