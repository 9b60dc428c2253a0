"""A product on tensor cores: matrices, or the implicit matrix product of a convolution (NHWC).

    Y[m, n] = epilogue(sum over k of X[m, k] · W[n, k])

Each block computes a rectangle of Y over the whole depth, or over a share of it: then its sums go
to memory, and a second kernel adds the shares, always in the same order, and does the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.depth_rows import DepthRows
from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.fragments import Fragments
from gcompile.backends.cuda.kernels.group_loop import GroupLoop
from gcompile.backends.cuda.kernels.main_loop import MainLoop
from gcompile.backends.cuda.kernels.operands import MatrixRows, OperandRows, WindowRows
from gcompile.backends.cuda.kernels.product_output import adding, written
from gcompile.backends.cuda.kernels.register_loop import RegisterLoop
from gcompile.backends.cuda.program.instruction import Element, Instruction
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Z,
    WARP,
    Barrier,
    Buffer,
    Let,
    Program,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    constant,
    variable,
)
from gcompile.ir import Contraction

_STORAGE: dict[Element, Storage] = {
    "f16": "float16",
    "bf16": "bfloat16",
    "tf32": "float32",
    "s8": "int8",
    "u8": "uint8",
    "e4m3": "uint8",
    "e5m2": "uint8",
}

_WIDEST = 8
"""Elements of the output that one thread handles together."""

_ADDING_THREADS = 128

_FEW_PASSES = 4
"""Passes of the exchange that are unrolled; more there are only for odd numbers of channels."""


@dataclass(frozen=True)
class Product:
    """What is multiplied, on which unit, and what follows.

    The programs' arguments are, in order: `x`, `weights`, the epilogue's channel vectors and
    sources, and the output `y`; where the depth is split, the first program has only `x`,
    `weights` and the sums of the `shares`, and the second these and the rest.

    Attributes:
        name: Of the program; the second one of a split product adds `_add`.
        contraction: The sizes of one product of the batch, or of one group.
        epilogue: Its output holds all products of the batch, or all groups.
        x_pitch: Channels of a pixel of x, or elements of a row, in memory.
        batch: Products that are independent, or groups.
        groups: The batch is the groups of one convolution, side by side in the channels.
        weights_vary: Each product of the batch has a right operand of its own.
        weights_pitch: Elements of a column of the right operand in memory; elements past the
            depth are zeros.
    """

    name: str
    instruction: Instruction
    contraction: Contraction
    tile: BlockTile
    epilogue: Epilogue
    x_pitch: int
    weights_pitch: int
    batch: int = 1
    groups: bool = False
    weights_vary: bool = True

    def programs(self) -> tuple[Program, ...]:
        """One program, or two where the depth is split.

        Raises:
            ValueError: The sizes do not fit each other, or a tensor has 2^31 elements.
        """
        self._check()
        main = self._main()
        return (main,) if self.tile.split == 1 else (main, adding(self))

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks along the rows and columns of one product."""
        c, tile = self.contraction, self.tile
        return math.ceil(c.m / tile.rows), math.ceil(c.n / tile.columns)

    @property
    def shares(self) -> Buffer:
        """The sums of each share of the depth: (batch, split, m, n)."""
        count = self.batch * self.tile.split * self.contraction.m * self.contraction.n
        return Buffer("shares", self.instruction.sums, count, written=True)

    def _check(self) -> None:
        c, image = self.contraction, self.epilogue.output.image
        pixels = c.m if self.groups else c.m * self.batch
        channels = c.n * self.batch if self.groups else c.n
        if image.size != pixels * channels or image.channels != channels:
            raise ValueError("The output image has not the size of the product.")
        self._check_sizes()

    @property
    def storages(self) -> tuple[Storage, Storage]:
        """How both operands are stored."""
        return _STORAGE[self.instruction.left], _STORAGE[self.instruction.right]

    def _check_sizes(self) -> None:
        image = self.epilogue.output.image
        elements = (self._x().elements, self._weights().elements, image.size, self.shares.elements)
        if max(elements) >= 2**31:
            raise ValueError("Tensors of 2^31 elements and more are not supported.")

    def _x(self) -> Buffer:
        c = self.contraction
        images = c.batch * (1 if self.groups else self.batch)
        return Buffer(
            "x", _STORAGE[self.instruction.left], images * c.in_h * c.in_w * self.x_pitch
        )

    def _weights(self) -> Buffer:
        products = self.batch if self.weights_vary else 1
        count = products * self.contraction.n * self.weights_pitch
        return Buffer("weights", _STORAGE[self.instruction.right], count)

    def _left(self) -> OperandRows:
        c = self.contraction
        rows_pitch = c.in_c if self.groups else c.batch * c.in_h * c.in_w * self.x_pitch
        batch_pitch = rows_pitch if self.batch > 1 else 0
        if (c.kernel_h, c.kernel_w, c.stride_h, c.stride_w) == (1, 1, 1, 1) and not any(c.pads):
            return MatrixRows(self._x(), c.m, c.k, self.x_pitch, batch_pitch)
        return WindowRows(self._x(), c, self.x_pitch, batch_pitch)

    def _right(self) -> MatrixRows | DepthRows:
        n, pitch = self.contraction.n, self.weights_pitch
        batch_pitch = n * pitch if self.batch > 1 and self.weights_vary else 0
        return MatrixRows(self._weights(), n, pitch, pitch, batch_pitch)

    @property
    def copies(self) -> Copies:
        """What every block copies on its way along the depth."""
        size = self.instruction.element_bytes
        return Copies(size, self.tile, self._left(), self._right())

    @property
    def operands(self) -> tuple[Buffer, ...]:
        """What is multiplied, in the order of arguments."""
        return self._x(), self._weights()

    def _main(self) -> Program:
        copies = self.copies
        loop = self._loop(copies)
        is_split = self.tile.split > 1
        rest = (self.shares,) if is_split else (*self.epilogue.read, self.epilogue.written)
        rows, columns = self.blocks
        return Program(
            self.name,
            (*self.operands, *rest),
            (rows * columns, 1, self.batch * self.tile.split),
            self.tile.threads,
            self.tile.shared_bytes,
            (
                *self._where(copies),
                *loop.statements(),
                Barrier(),
                *written(self),
            ),
        )

    def _loop(self, copies: Copies) -> GroupLoop | RegisterLoop | MainLoop:
        if self.tile.by_groups:
            return GroupLoop(self.instruction, copies)
        fragments = Fragments(self.instruction, copies)
        return RegisterLoop(fragments) if self.tile.by_registers else MainLoop(fragments)

    def _where(self, copies: Copies) -> list[Statement]:
        """Find the block's and the warp's part of the product."""
        tile = self.tile
        rows, columns = self.blocks
        group = min(tile.group, rows)
        within, first = BLOCK_X % (group * columns), BLOCK_X // (group * columns) * group
        height: Scalar | int = group
        if rows % group:
            height = apply("min", constant(rows) - first, group)
        return [
            Let("first_row", (first + within % height) * tile.rows),
            Let("first_column", within // height * tile.columns),
            Let("share", BLOCK_Z % tile.split),
            Let("batch", BLOCK_Z // tile.split),
            Let("first_depth", variable("share") * (copies.stages * copies.stage_depth)),
            Let("warp_row", WARP % tile.warps[0] * tile.warp_rows),
            Let("warp_column", WARP // tile.warps[0] * tile.warp_columns),
        ]

    def place(self, row: Scalar, column: Scalar, batch: Scalar) -> Place:
        """The pixel and channel of the output: groups lie side by side, a batch one by one."""
        if self.groups:
            return Place(row, batch * self.contraction.n + column)
        return (
            Place(batch * self.contraction.m + row, column)
            if self.batch > 1
            else Place(row, column)
        )
