"""Matrix products of float activations with constant weights of four or eight bits.

Weights stay as they are stored until a kernel loads them: few rows unpack into registers, more
rows decode a panel into the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr

from gcompile.backends.tvm.kernels import amx
from gcompile.backends.tvm.kernels.amx_tiles import Issue, issue_instruction, pixels_per_tile
from gcompile.backends.tvm.kernels.few_bits import FewBits, Reader
from gcompile.backends.tvm.kernels.few_rows import MOST_ROWS, FewRows
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.multiply import multiplying, unit_functions
from gcompile.backends.tvm.kernels.packing import depth_of
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import Panel, ProductKernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile

_AHEAD = 16
"""Groups of eight elements of depth by which weights are asked for before they are needed."""

_PANEL_BYTES = 2048


@dataclass(frozen=True, slots=True)
class WeightOnlyKernel(ProductKernel):
    """A matrix product with weights of few bits, then the expression.

    Arguments are x, the tensors of the weights (see `FewBits.arguments`), and what all kernels
    share. `panel` must be given where there are more than four rows.

    Attributes:
        stored: How the weights are stored; their depth is `x.channels`.
    """

    stored: FewBits = FewBits(4, 32)


def decoding_unit(tile: Tile) -> Unit:
    """The unit that multiplies: weights are decoded in pairs at most."""
    unit = unit_named(tile.unit)
    return unit_named(unit.narrower) if unit.pixels > 1 else unit


def decoded_panel(unit: Unit, cache_bytes: int) -> Panel:
    """Panels of which a decoded one takes half of a core's own cache.

    The pixels' sums take another part. Many rows share what a panel costs.
    """
    columns = max(unit.lanes, cache_bytes // 2 // _PANEL_BYTES)
    rows = max(1, cache_bytes // 16 // columns)
    return Panel(rows, columns, _PANEL_BYTES // unit.weight_bytes)


def code(kernel: WeightOnlyKernel, issue: Issue = issue_instruction) -> Code:
    """Emit the kernel.

    Args:
        kernel: What to compute.
        issue: Emits one tile instruction; tests put an emulation here.

    Raises:
        CompileError: The unit does not multiply floats, or the product is no matrix product.
        UnknownNameError: There is no such unit.
    """
    unit = decoding_unit(kernel.tile)
    _check(kernel, unit)
    depth, channels = kernel.x.channels, kernel.contraction.out_c
    stored = kernel.stored.arguments(depth, channels, unit.lanes)

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], (kernel.x.size,))

        def task(index: Expr) -> None:
            reader = Reader.of(kernel.stored, buffers[1:], Lanes(unit.lanes))
            if kernel.contraction.m <= MOST_ROWS:
                tile = replace(kernel.tile, split="n", outer="n", flat=False)
                shared = Multiplication(kernel, tile, unit, x, tensors, ahead=_AHEAD)
                part = _part(kernel, buffers[1], kernel.contraction.m)
                FewRows.reading(shared, part, reader).multiply(part, index, tile.threads)
                return
            assert kernel.panel is not None
            shared = Multiplication(kernel, kernel.tile, unit, x, tensors, kernel.panel)
            rows = kernel.tile.rows
            if unit.is_tiled:
                rows = pixels_per_tile(kernel.contraction.m, kernel.tile.flat)
            part = _part(kernel, buffers[1], rows)
            with multiplying(shared, part, issue, reader) as multiply:
                multiply(part, index, kernel.tile.threads)

        with unit_functions(unit):
            tasks(kernel.tile.threads, task)

    return kernel_code(kernel, [Argument.of_image("x", kernel.x), *stored], body)


def _part(kernel: WeightOnlyKernel, weights: Buffer, rows: int) -> Part:
    pixels = Pixels.of(kernel, rows)
    return Part(pixels, depth_of(kernel), kernel.contraction.out_c, weights)


def _check(kernel: WeightOnlyKernel, unit: Unit) -> None:
    contraction = kernel.contraction
    if unit.x_dtype != kernel.x.dtype or unit.x_dtype == "uint8":
        raise CompileError(
            f"Unit {unit.name!r} does not multiply {kernel.x.dtype} with weights of few bits; "
            "choose a unit of the region's precision."
        )
    if contraction.m != contraction.out_w or contraction.k != contraction.in_c:
        raise CompileError("Weights of few bits are for matrix products, not convolutions.")
    reason = amx.refuses_tile(kernel.tile) if unit.is_tiled else None
    if reason is not None:
        raise CompileError(f"AMX cannot carry this product: {reason}.")
    if contraction.m > MOST_ROWS and kernel.panel is None:
        raise CompileError("A product of more than four rows needs panels: see decoded_panel.")
