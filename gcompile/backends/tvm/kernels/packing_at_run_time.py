"""Bring a matrix that is only known at run time into the order in which units read weights.

Packed weights are (blocks of columns, steps, lanes · group), as in `packing`. What one lane reads
in one step is a group of consecutive depth: 32 bits of one float32, two bfloat16 or four bytes, or
the 16 bits of one widened byte.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import loop, scratch, view
from gcompile.backends.tvm.kernels.lanes import Lanes, bind, pieces
from gcompile.backends.tvm.kernels.matrices import Matrix
from gcompile.backends.tvm.kernels.transpose import transposed
from gcompile.backends.tvm.kernels.units import Unit


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Where blocks of columns go: from number `first` on."""

    buffer: Buffer
    first: Expr


@dataclass(frozen=True, slots=True)
class Packing:
    """How right operands of one shape are packed.

    Attributes:
        columns: Columns of the product.
        depth: Elements of depth that exist.
        padded_depth: Elements of depth that are read; those beyond `depth` are zero.
        is_transposed: A row of the matrix is a column of the product.
        dtype: The type the matrix is stored in. Bytes without a sign are lowered by 128.
    """

    unit: Unit
    columns: int
    depth: int
    padded_depth: int
    is_transposed: bool
    dtype: str

    @property
    def bits(self) -> int:
        """Bits of one lane's group."""
        return 8 * self.unit.weight_bytes * self.unit.group

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the packed operand."""
        unit = self.unit
        blocks = -(-self.columns // unit.lanes)
        steps = self.padded_depth // unit.group + unit.signed_dot
        return blocks, steps, unit.lanes * unit.group

    def memory(self) -> Buffer:
        """Room for one packed operand."""
        blocks, steps, width = self.shape
        return view(scratch(blocks * steps * width, self.unit.weight_dtype), self.shape)

    def write(self, matrix: Matrix, packed: Buffer, first_block: Expr = 0) -> None:
        """Pack one matrix. Lanes beyond the last column stay undefined.

        Args:
            matrix: What is packed.
            packed: Room for this, and perhaps for others.
            first_block: The first of its blocks of columns there.
        """
        full, rest = divmod(self.columns, self.unit.lanes)
        pack = self._from_columns if self.is_transposed else self._from_rows
        to = _Blocks(packed, first_block)
        loop(0, full, lambda block: pack(matrix, to, block, self.unit.lanes))
        if rest:
            pack(matrix, to, full, rest)

    def _from_rows(self, matrix: Matrix, packed: _Blocks, block: Expr, count: int) -> None:
        """Rows of the matrix are steps of depth: a group of rows is interleaved."""
        group = self.unit.group

        def step(index: Expr, rows: int) -> None:
            for offset, lanes in pieces(count, self.unit.lanes):
                column = block * self.unit.lanes + offset
                bits = [
                    self._bits(self._stored(matrix, index * group + row, column, lanes), lanes)
                    << lanes.splat(row * self.bits // group, self._group)
                    for row in range(rows)
                ]
                self._store(
                    packed, (block, index, offset), functools.reduce(operator.or_, bits), lanes
                )

        whole, rest = divmod(self.depth, group)
        loop(0, whole, lambda index: step(index, group))
        if rest:
            step(whole, rest)
        self._clear(packed, block, -(-self.depth // group))

    def _from_columns(self, matrix: Matrix, packed: _Blocks, block: Expr, count: int) -> None:
        """Rows of the matrix are columns of the product: squares of groups are transposed."""
        group, side = self.unit.group, self.unit.lanes
        first = block * side

        def square(step: Expr, steps: Lanes) -> None:
            together = Lanes(steps.count * group)
            rows = [
                bind(
                    steps.reinterpret(
                        self._group, self._stored(matrix, first + row, step * group, together)
                    )
                )
                if row < count
                else steps.splat(0, self._group)
                for row in range(side)
            ]
            for index, numbers in enumerate(transposed(rows, steps.count)):
                self._store(packed, (block, step + index, 0), numbers, Lanes(side))

        whole, rest = divmod(self.depth, group)
        squares = whole // side
        loop(0, squares, lambda index: square(index * side, Lanes(side)))
        for offset, lanes in pieces(whole - squares * side, side):
            square(squares * side + offset, lanes)
        if rest:
            self._last_group(matrix, packed, block, count)
        self._clear(packed, block, -(-self.depth // group))

    def _last_group(self, matrix: Matrix, packed: _Blocks, block: Expr, count: int) -> None:
        """The group of depth that the matrix does not fill."""
        group = self.unit.group
        step, rest = divmod(self.depth, group)
        with T.serial(count) as lane:
            for element in range(group):
                row = block * self.unit.lanes + lane
                value = T.Cast(self.unit.weight_dtype, 0)
                if element < rest:
                    value = self._stored(matrix, row, step * group + element, Lanes(1))
                place = [packed.first + block, step, lane * group + element]
                T.buffer_store(packed.buffer, value, place)

    def _clear(self, packed: _Blocks, block: Expr, first: int) -> None:
        lanes = Lanes(self.unit.lanes)
        zero = lanes.splat(0, self._group)
        loop(first, self.shape[1], lambda step: self._store(packed, (block, step, 0), zero, lanes))

    def _stored(self, matrix: Matrix, row: Expr, column: Expr, lanes: Lanes) -> Expr:
        """Elements of a row as the unit reads weights."""
        stored = matrix.vector(row, column, lanes)
        if self.dtype == "uint8":
            stored = lanes.reinterpret("int8", stored ^ lanes.splat(128, "uint8"))
        if self.unit.weight_dtype == "int16":
            stored = lanes.cast("int16", stored)
        return stored

    def _bits(self, stored: Expr, lanes: Lanes) -> Expr:
        """Elements as the lowest bits of a group."""
        unsigned = f"uint{self.bits // self.unit.group}"
        return lanes.cast(self._group, lanes.reinterpret(unsigned, stored))

    @property
    def _group(self) -> str:
        """A group as one number."""
        return f"uint{self.bits}"

    def _store(
        self, packed: _Blocks, place: tuple[Expr, Expr, int], bits: Expr, lanes: Lanes
    ) -> None:
        block, step, lane = place
        elements = Lanes(lanes.count * self.unit.group)
        value = elements.reinterpret(self.unit.weight_dtype, bits)
        index = elements.index(lane * self.unit.group)
        T.buffer_store(packed.buffer, value, [packed.first + block, step, index])
