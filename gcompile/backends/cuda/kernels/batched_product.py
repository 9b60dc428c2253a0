"""Products of two computed operands, one for each sequence and head, on tensor cores.

    Y[b, h] = epilogue(L[b, h] · R[b, h])

The matrices are read where they lie: rows of either operand are contiguous in memory, the right
one's perhaps as columns of the product. Heads may be put side by side on their way out.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.lib.stride_tricks import as_strided

from gcompile.backends.cuda.kernel import Buffer as Flat
from gcompile.backends.cuda.kernels.depth_rows import DepthRows
from gcompile.backends.cuda.kernels.epilogue import Place
from gcompile.backends.cuda.kernels.operands import MatrixRows, OperandRows
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.program.program import Buffer
from gcompile.backends.cuda.program.scalar import Scalar


@dataclass(frozen=True, slots=True)
class Pitches:
    """Elements from one matrix of an operand to that of the next sequence, head, and row."""

    batch: int
    head: int
    row: int

    def elements(self, batch: int, heads: int, rows: int, length: int) -> int:
        """Up to the last element that is used."""
        steps = (batch - 1) * self.batch + (heads - 1) * self.head + (rows - 1) * self.row
        return steps + length

    def matrices(self, flat: Flat, batch: int, heads: int, rows: int, length: int) -> Flat:
        """The matrices as (batch, heads, rows, length), in the memory of `flat`."""
        steps = [step * flat.itemsize for step in (self.batch, self.head, self.row, 1)]
        return as_strided(flat, (batch, heads, rows, length), steps)


@dataclass(frozen=True)
class BatchedProduct(Product):
    """All products of one node; `batch` counts the pairs of sequences and heads.

    Attributes:
        heads: Of each sequence.
        left: Of L, whose rows are those of the product.
        right: Of R: its rows are columns of the product if it `is_transposed`, else rows of the
            depth, which are two bytes an element.
        are_side_by_side: The output is (sequences, rows, heads · columns).
    """

    heads: int = 1
    left: Pitches = Pitches(0, 0, 0)
    right: Pitches = Pitches(0, 0, 0)
    is_transposed: bool = False
    are_side_by_side: bool = False

    def matrices(self, x: Flat, weights: Flat) -> tuple[Flat, Flat]:
        """Both operands as (sequences, heads, rows, depth) and (…, depth, columns)."""
        c = self.contraction
        left = self.left.matrices(x, self._sequences, self.heads, c.m, c.k)
        if self.is_transposed:
            right = self.right.matrices(weights, self._sequences, self.heads, c.n, c.k)
            return left, right.swapaxes(-1, -2)
        return left, self.right.matrices(weights, self._sequences, self.heads, c.k, c.n)

    def _check(self) -> None:
        if self.epilogue.output.image.size != self.batch * self.contraction.m * self.contraction.n:
            raise ValueError("The output image has not the size of the products.")
        self._check_sizes()

    @property
    def _sequences(self) -> int:
        return self.batch // self.heads

    def _x(self) -> Buffer:
        c = self.contraction
        count = self.left.elements(self._sequences, self.heads, c.m, c.k)
        return Buffer("x", self.storages[0], count)

    def _weights(self) -> Buffer:
        c = self.contraction
        rows, length = (c.n, c.k) if self.is_transposed else (c.k, c.n)
        count = self.right.elements(self._sequences, self.heads, rows, length)
        return Buffer("weights", self.storages[1], count)

    def _left(self) -> OperandRows:
        c, to = self.contraction, self.left
        return MatrixRows(self._x(), c.m, c.k, to.row, to.batch, self.heads, to.head)

    def _right(self) -> MatrixRows | DepthRows:
        c, to = self.contraction, self.right
        if self.is_transposed:
            return MatrixRows(self._weights(), c.n, c.k, to.row, to.batch, self.heads, to.head)
        return DepthRows(self._weights(), c.n, c.k, to.row, to.batch, self.heads, to.head)

    def place(self, row: Scalar, column: Scalar, batch: Scalar) -> Place:
        """The pixel and channel of the output, where heads may lie side by side."""
        c = self.contraction
        if not self.are_side_by_side:
            return Place(batch * c.m + row, column)
        pixel = batch // self.heads * c.m + row
        return Place(pixel, batch % self.heads * c.n + column)
