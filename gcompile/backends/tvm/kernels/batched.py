"""Batches of matrix products of which neither operand is constant, as attention has them.

For every pair of matrices the right one is packed, at run time, into the order in which the unit
reads weights; then the product is like any other. Matrices are read where they lie: as tensors of
their own, or side by side in the rows of one, as projections leave heads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import amx
from gcompile.backends.tvm.kernels.amx_tiles import Issue, issue_instruction
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.left_rows import LeftRows, padded_depth
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.multiply import Multiply, multiplying, unit_functions
from gcompile.backends.tvm.kernels.packing_at_run_time import Packing
from gcompile.backends.tvm.kernels.parts import Depth, Multiplication, Part
from gcompile.backends.tvm.kernels.spec import Image, Kernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.backends.tvm.kernels.zero_points import ZeroPoints
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile


@dataclass(frozen=True, slots=True)
class BatchedKernel(Kernel):
    """left · right, or left · rightᵀ, for every head of every batch; then the expression.

    The output image is (batch, heads, M, N), or (batch, 1, M, heads · N) with
    `output_in_channels`; sources, such as a mask, lie as it does or are broadcast. Fewer right
    heads than left ones are each used by several in a row (grouped queries).

    Attributes:
        left: (M, K) matrices of the unit's input type; bytes may have a sign or none.
        right: (K, N) matrices, or (N, K) if `is_transposed`; of the same type, or bytes.
        zero_points: What stands for zero in bytes of the left and of the right operand. The
            expression sees sums of products of differences from them, which are exact.
        tile: The unit and its blocks, as for any product; `split` matters only where there are
            fewer matrices than threads.
    """

    left: Matrices = Matrices(Image(1, 1, 1, 1), 1, 1)
    right: Matrices = Matrices(Image(1, 1, 1, 1), 1, 1)
    is_transposed: bool = False
    output_in_channels: bool = False
    zero_points: tuple[int, int] = (0, 0)
    tile: Tile = Tile("generic", 1, 1)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K of every product."""
        n = self.right.rows if self.is_transposed else self.right.columns
        return self.left.rows, n, self.left.columns


def emit(kernel: BatchedKernel, name: str, issue: Issue = issue_instruction) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel, issue).function(name)


def code(kernel: BatchedKernel, issue: Issue = issue_instruction) -> Code:
    """Emit a batch of products.

    The function's arguments are the left and the right image, the channel vectors, the sources
    and the output. The tile's own number of threads is used.

    Raises:
        CompileError: The unit cannot carry this product, or the operands do not match.
        UnknownNameError: There is no such unit.
    """
    unit = unit_named(kernel.tile.unit)
    _check(kernel, unit)
    leading = [
        Argument.of_image("left", kernel.left.image),
        Argument.of_image("right", kernel.right.image),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        left = view(buffers[0], (kernel.left.image.size,))
        right = view(buffers[1], (kernel.right.image.size,))
        with unit_functions(unit):
            batch = _Batch(kernel, unit, left, right, tensors, issue)
            tasks(kernel.tile.threads, batch.task)

    return kernel_code(kernel, leading, body)


def _check(kernel: BatchedKernel, unit: Unit) -> None:
    left, right = kernel.left, kernel.right
    depth = right.columns if kernel.is_transposed else right.rows
    if left.columns != depth:
        raise CompileError(f"A depth of {left.columns} cannot be multiplied with one of {depth}.")
    if left.heads % right.heads:
        raise CompileError(f"{left.heads} heads cannot share {right.heads} right operands evenly.")
    readable = ("uint8", "int8") if unit.x_dtype == "uint8" else (unit.x_dtype,)
    if left.image.dtype not in readable or right.image.dtype not in readable:
        raise CompileError(
            f"Unit {unit.name!r} multiplies {' or '.join(readable)}, but the operands are "
            f"{left.image.dtype} and {right.image.dtype}."
        )
    if unit.pixels > 1:
        raise CompileError(f"Unit {unit.name!r} reads constant weights; take {unit.narrower!r}.")
    reason = amx.refuses_tile(kernel.tile) if unit.is_tiled else None
    if reason is not None:
        raise CompileError(f"AMX cannot carry this product: {reason}.")


def packing_of(kernel: BatchedKernel, unit: Unit) -> Packing:
    """How the right operands are packed."""
    _, n, k = kernel.sizes
    depth = padded_depth(unit, k)
    return Packing(unit, n, k, depth, kernel.is_transposed, kernel.right.image.dtype)


@dataclass(frozen=True, slots=True)
class _Batch:
    """One kernel while it is being emitted."""

    kernel: BatchedKernel
    unit: Unit
    left: Buffer
    right: Buffer
    tensors: Tensors
    issue: Issue

    def task(self, task: Expr) -> None:
        """Matrices are shared out; where they are too few, every task packs them for itself."""
        kernel, threads = self.kernel, self.kernel.tile.threads
        fill_halo(kernel.output.image, self.tensors.output, self.unit.vector_bits, task, threads)
        rights = kernel.left.batch * kernel.right.heads
        per_right = kernel.left.heads // kernel.right.heads
        is_shared_out = rights >= threads
        packing = packing_of(kernel, self.unit)
        packed, rows = packing.memory(), LeftRows.of(kernel.left, self.unit, self.left)
        zeros = ZeroPoints.of(kernel.zero_points, kernel.left, packing)
        shared = Multiplication(kernel, kernel.tile, self.unit, rows.line, self.tensors)
        shape = Part(rows.pixels(kernel.tile), Depth(rows.depth), kernel.sizes[1], packed)
        share_of_task = (0, 1) if is_shared_out else (task, threads)

        def product(multiply: Multiply, batch: Expr, head: Expr) -> None:
            left = kernel.left.matrix(self.left, batch, head)
            origin = rows.place(left)
            zeros.add_up_rows(rows, origin)
            part = replace(
                shape,
                origin=origin,
                placed=functools.partial(self._placed, batch, head),
                corrected=zeros.corrected,
            )
            multiply(part, *share_of_task)

        def pair(multiply: Multiply, index: Expr) -> None:
            batch, head = T.Bind(index // kernel.right.heads), T.Bind(index % kernel.right.heads)
            packing.write(kernel.right.matrix(self.right, batch, head), packed)
            zeros.add_up_columns(packed)
            with T.serial(per_right) as user:
                product(multiply, batch, T.Bind(head * per_right + user))

        with multiplying(shared, shape, self.issue) as multiply:
            start, stop = share(rights, task, threads) if is_shared_out else (0, rights)
            loop(start, stop, lambda index: pair(multiply, index))

    def _placed(self, batch: Expr, head: Expr, position: Position) -> Position:
        if self.kernel.output_in_channels:
            channel = head * self.kernel.sizes[1] + position.channel
            return Position(batch, 0, position.x, channel)
        return Position(batch, head, position.x, position.channel)
