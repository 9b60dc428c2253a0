"""Where the rows of an operand lie in global memory: a matrix, or the windows of an image.

Both are read in units of 4, 8 or 16 bytes along the depth. A unit lies within one pixel of the
image or one row of the matrix; where it does not exist, zeros stand for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gcompile.backends.cuda.program.program import Buffer, Let, Registers, Set, Statement
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    select,
    variable,
)
from gcompile.ir import Contraction

BATCH = variable("batch")
"""Which product of a batch, or which group, the block works on."""

_FAR = -(1 << 28)
"""A place above every image, for rows that do not exist."""

_UNITS = (16, 8, 4)
"""Bytes that `cp.async` copies."""


@dataclass(frozen=True, slots=True)
class MatrixRows:
    """The rows of a matrix whose depth lies side by side.

    Attributes:
        rows: How many there are.
        depth: Elements of a row that take part.
        pitch: Elements from one row to the next.
        batch_pitch: Elements from one matrix of a batch to the next, or from one run of heads.
        heads: Matrices that lie in runs of so many, `head_pitch` elements apart.
    """

    buffer: Buffer
    rows: int
    depth: int
    pitch: int
    batch_pitch: int = 0
    heads: int = 1
    head_pitch: int = 0

    @property
    def unit_bytes(self) -> int:
        """Bytes of one copy; it must not reach from the depth into what is not part of it."""
        runs = self.depth, self.pitch, self.batch_pitch, self.head_pitch
        return unit_bytes(self.buffer, *runs)

    def prepare(self, name: str, rows: Sequence[Scalar], slack: bool) -> list[Statement]:
        """Compute once what each of a thread's rows needs; `slack` where some do not exist."""
        statements: list[Statement] = [Registers(f"{name}_start", "int32", len(rows))]
        if slack:
            statements.append(Registers(f"{name}_exists", "bool", len(rows)))
        for i, row in enumerate(rows):
            start = row * self.pitch + matrix_start(self.heads, self.batch_pitch, self.head_pitch)
            statements.append(Set(register(f"{name}_start", i, "int32"), start))
            if slack:
                statements.append(Set(register(f"{name}_exists", i, "bool"), less(row, self.rows)))
        return statements

    def step(self, name: str, depth: Scalar) -> list[Statement]:
        """Compute once per stage what depends on the depth (in elements) alone."""
        return [Let(f"{name}_depth", depth)]

    def place(
        self, name: str, i: Scalar, slack: bool, ragged: bool
    ) -> tuple[Scalar, Scalar | None]:
        """Index of the unit in the buffer, and the condition under which it exists.

        Args:
            name: The prefix given to `prepare` and `step`.
            i: Which of the thread's rows.
            slack: As in `prepare`.
            ragged: Whether the depth may pass the end.
        """
        depth = variable(f"{name}_depth")
        index = register(f"{name}_start", i, "int32") + depth
        exists = register(f"{name}_exists", i, "bool") if slack else None
        return index, both(exists, less(depth, self.depth) if ragged else None)


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The windows of a convolution over an image (batch, height, width, channels).

    A row is an output pixel; its depth walks the window's rows, columns and channels. Windows that
    reach over the border find zeros there.

    Attributes:
        contraction: One group. Its channels are those that take part.
        pitch: Channels that the image stores for a pixel.
        batch_pitch: Channels from one group to the next.
    """

    buffer: Buffer
    contraction: Contraction
    pitch: int
    batch_pitch: int = 0

    @property
    def rows(self) -> int:
        """Output pixels of all images."""
        return self.contraction.m

    @property
    def depth(self) -> int:
        """Elements of a window."""
        return self.contraction.k

    @property
    def unit_bytes(self) -> int:
        """Bytes of one copy: it stays within a pixel."""
        return unit_bytes(self.buffer, self.contraction.in_c, self.pitch, self.batch_pitch)

    def prepare(self, name: str, rows: Sequence[Scalar], slack: bool) -> list[Statement]:
        """Find the upper left corner of each of a thread's windows."""
        c = self.contraction
        arrays = ("start", "y", "x")
        result: list[Statement] = [Registers(f"{name}_{a}", "int32", len(rows)) for a in arrays]
        for i, row in enumerate(rows):
            image = row // (c.out_h * c.out_w)
            pixel = row % (c.out_h * c.out_w)
            y = pixel // c.out_w * c.stride_h - c.pad_top
            x = pixel % c.out_w * c.stride_w - c.pad_left
            start = ((image * c.in_h + y) * c.in_w + x) * self.pitch
            start = start + BATCH * self.batch_pitch
            if slack:
                y = select(less(row, self.rows), y, _FAR)
            values = (start, y, x)
            result += [
                Set(register(f"{name}_{a}", i, "int32"), v)
                for a, v in zip(arrays, values, strict=True)
            ]
        return result

    def step(self, name: str, depth: Scalar) -> list[Statement]:
        """Find the pixel of the window and the channel."""
        c = self.contraction
        at = variable(f"{name}_depth")
        tap = variable(f"{name}_tap")
        y, x = variable(f"{name}_dy"), variable(f"{name}_dx")
        return [
            Let(f"{name}_depth", depth),
            Let(f"{name}_tap", at // c.in_c),
            Let(f"{name}_dy", tap // c.kernel_w * c.dilation_h),
            Let(f"{name}_dx", tap % c.kernel_w * c.dilation_w),
            Let(f"{name}_offset", (y * c.in_w + x) * self.pitch + at % c.in_c),
        ]

    def place(
        self, name: str, i: Scalar, slack: bool, ragged: bool
    ) -> tuple[Scalar, Scalar | None]:
        """Index of the unit in the image, and the condition under which it lies inside."""
        c = self.contraction
        y = register(f"{name}_y", i, "int32") + variable(f"{name}_dy")
        x = register(f"{name}_x", i, "int32") + variable(f"{name}_dx")
        index = register(f"{name}_start", i, "int32") + variable(f"{name}_offset")
        padded = any(c.pads)
        condition = both(
            apply("inside", y, constant(c.in_h)) if padded or slack else None,
            apply("inside", x, constant(c.in_w)) if padded else None,
            less(variable(f"{name}_depth"), self.depth) if ragged else None,
        )
        return index, condition


OperandRows = MatrixRows | WindowRows


def matrix_start(heads: int, batch_pitch: int, head_pitch: int) -> Scalar:
    """Elements before the block's matrix of a batch."""
    if heads == 1:
        return BATCH * batch_pitch
    return BATCH // heads * batch_pitch + BATCH % heads * head_pitch


def unit_bytes(buffer: Buffer, *runs: int) -> int:
    """The most bytes that can be copied at once where runs of so many elements lie side by side.

    Raises:
        ValueError: Runs are no multiple of four bytes; the producer must pad its channels.
    """
    run_bytes = math.gcd(*runs) * buffer.element_bytes
    for size in _UNITS:
        if run_bytes % size == 0:
            return size
    raise ValueError("Rows must be multiples of four bytes long; pad the channels.")
