"""Batches of matrix products of which neither operand is constant, as attention has them.

For every pair of matrices the right one is packed, at run time, into the order in which the unit
reads weights; then the product is like any other. Matrices are read and written where they lie:
in images of their own, or side by side in the channels of one image, as projections leave heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import amx
from gcompile.backends.tvm.kernels.amx_tiles import (
    Issue,
    depth_tile_bytes,
    issue_instruction,
    pixels_per_tile,
)
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    scratch,
    share,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.lanes import for_each_vector
from gcompile.backends.tvm.kernels.multiply import Multiply, multiplying, unit_functions
from gcompile.backends.tvm.kernels.packing_at_run_time import Matrix, Packing
from gcompile.backends.tvm.kernels.parts import Depth, Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import Image, Kernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile


@dataclass(frozen=True, slots=True)
class Matrices:
    """Where a batch of matrices lies. Rows follow the width of an image.

    Attributes:
        image: (batch, heads, rows, columns); or, with `in_channels`, (batch, 1, rows, channels),
            where each row holds those of all heads side by side.
        columns: Columns of one matrix.
        heads: Matrices for each image of the batch.
        in_channels: The heads lie in the channels.
        first_channel: The channel where the first matrix begins: queries, keys and values may
            share one image.
    """

    image: Image
    columns: int
    heads: int = 1
    in_channels: bool = False
    first_channel: int = 0

    @property
    def rows(self) -> int:
        """Rows of one matrix."""
        return self.image.width

    def matrix(self, buffer: Buffer, batch: Expr, head: Expr) -> Matrix:
        """One of the matrices in the image's memory, seen as one line."""
        _, height, width, channels = self.image.shape
        top, left, _, _ = self.image.halo
        line = batch * height + top + (0 if self.in_channels else head)
        channel = self.first_channel + (head * self.columns if self.in_channels else 0)
        start = T.Bind((line * width + left) * channels + channel)
        return Matrix(buffer, start, channels, self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class BatchedKernel(Kernel):
    """left · right, or left · rightᵀ, for every head of every image; then the expression.

    The output image is (batch, heads, M, N), or (batch, 1, M, heads · N) with
    `output_in_channels`; sources, such as a mask, lie as it does or are broadcast. Fewer right
    heads than left ones are each used by several in a row (grouped queries).

    Attributes:
        left: (M, K) matrices of the unit's input type.
        right: (K, N) matrices, or (N, K) if `is_transposed`; of the same type, or int8 beside
            uint8.
        tile: The unit and its blocks, as for any product; `split` matters only where there are
            fewer matrices than threads.
    """

    left: Matrices = Matrices(Image(1, 1, 1, 1), 1)
    right: Matrices = Matrices(Image(1, 1, 1, 1), 1)
    is_transposed: bool = False
    output_in_channels: bool = False
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
    if left.image.dtype != unit.x_dtype or right.image.storage_dtype != unit.weight_dtype:
        raise CompileError(
            f"Unit {unit.name!r} multiplies {unit.x_dtype} with {unit.weight_dtype}, but the "
            f"operands are {left.image.dtype} and {right.image.dtype}."
        )
    if unit.signed_dot:
        raise CompileError(f"Unit {unit.name!r} needs weights that are known in advance.")
    reason = amx.refuses_tile(kernel.tile) if unit.is_tiled else None
    if reason is not None:
        raise CompileError(f"AMX cannot carry this product: {reason}.")


def padded_depth(unit: Unit, depth: int) -> int:
    """The depth that is computed: whole groups, and where tiles would be narrow, whole tiles."""
    padded = -(-depth // unit.group) * unit.group
    size = padded * 4 // unit.group
    if unit.is_tiled and size > 64 and depth_tile_bytes(size) < 32:
        return -(-size // 64) * 64 * unit.group // 4
    return padded


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
        rights = kernel.left.image.batch * kernel.right.heads
        per_right = kernel.left.heads // kernel.right.heads
        is_shared_out = rights >= threads
        packed = self._packing.memory()
        copied = scratch(kernel.sizes[0] * self._depth, self._copy_dtype) if self._copies else None
        shared = Multiplication(
            kernel, kernel.tile, self.unit, self.left if copied is None else copied, self.tensors
        )

        def pair(multiply: Multiply, index: Expr) -> None:
            batch, head = T.Bind(index // kernel.right.heads), T.Bind(index % kernel.right.heads)
            right_batch = batch if kernel.right.image.batch > 1 else 0
            self._packing.write(kernel.right.matrix(self.right, right_batch, head), packed)
            with T.serial(per_right) as user:
                part = self._part(packed, copied, batch, T.Bind(head * per_right + user))
                multiply(part, *((0, 1) if is_shared_out else (task, threads)))

        shape = self._shape(packed)
        with multiplying(shared, shape, self.issue) as multiply:
            start, stop = share(rights, task, threads) if is_shared_out else (0, rights)
            loop(start, stop, lambda index: pair(multiply, index))

    @property
    def _depth(self) -> int:
        return padded_depth(self.unit, self.kernel.left.columns)

    @property
    def _copies(self) -> bool:
        """The left rows are copied to where they can be followed by zeros."""
        return self._depth != self.kernel.left.columns

    @property
    def _copy_dtype(self) -> str:
        return self.kernel.left.image.storage_dtype

    @property
    def _packing(self) -> Packing:
        _, n, k = self.kernel.sizes
        return Packing(self.unit, n, k, self._depth, self.kernel.is_transposed)

    def _shape(self, packed: Buffer) -> Part:
        m, n, k = self.kernel.sizes
        image = self.kernel.left.image
        if self._copies:
            image = Image(1, 1, m, self._depth, image.dtype)
        rows = pixels_per_tile(m, False) if self.unit.is_tiled else self.kernel.tile.rows
        contraction = replace(Contraction.matmul(m, k, n), in_c=image.channels)
        pixels = Pixels(contraction, image, min(rows, m), flat=False)
        return Part(pixels, Depth(self._depth), n, packed)

    def _part(self, packed: Buffer, copied: Buffer | None, batch: Expr, head: Expr) -> Part:
        kernel = self.kernel
        _, n, _ = kernel.sizes
        left = kernel.left.matrix(self.left, batch, head)
        halo_top, halo_left, _, _ = kernel.left.image.halo
        _, _, width, channels = kernel.left.image.shape
        origin = left.start - (halo_top * width + halo_left) * channels
        if copied is not None:
            self._copy(left, copied)
            origin = 0

        def placed(position: Position) -> Position:
            if kernel.output_in_channels:
                return Position(batch, 0, position.x, head * n + position.channel)
            return Position(batch, head, position.x, position.channel)

        return replace(self._shape(packed), origin=T.Bind(origin), placed=placed)

    def _copy(self, left: Matrix, copied: Buffer) -> None:
        width = self.unit.lanes * self.unit.group

        with T.serial(left.rows) as row:
            for_each_vector(
                left.columns,
                width,
                lambda offset, lanes: T.buffer_store(
                    copied,
                    left.buffer[lanes.index(left.start + row * left.pitch + offset)],
                    [lanes.index(row * self._depth + offset)],
                ),
            )
            for_each_vector(
                self._depth - left.columns,
                width,
                lambda offset, lanes: T.buffer_store(
                    copied,
                    lanes.splat(0, self._copy_dtype),
                    [lanes.index(row * self._depth + left.columns + offset)],
                ),
            )
