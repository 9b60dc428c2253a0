"""Determinants of square matrices."""

from __future__ import annotations

import math

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import when
from gcompile.backends.tvm.plain.code import PlainCode, Tensors, dtype_of, number, store


def determinant(node: ir.Node) -> PlainCode | str:
    """Det: the product of the pivots of Gauss elimination, the largest of each column first."""
    shape = ir.static_shape(node.inputs[0])
    size, count, dtype = shape[-1], math.prod(shape[:-2]), dtype_of(node.inputs[0])

    def write(tensors: Tensors) -> None:
        x = tensors.input(0, (count, size, size))
        y = tensors.output(0, (count,))
        rows = T.alloc_buffer((size, size), dtype, layout=None)
        pivot = T.alloc_buffer((1,), "int32", layout=None)
        held = T.alloc_buffer((1,), dtype, layout=None)
        with T.serial(0, count) as matrix:
            with T.grid(size, size) as (i, j):
                store(rows, x[matrix, i, j], i, j)
            store(y, number(1, dtype), matrix)
            with T.serial(0, size) as column:
                _find_pivot(rows, pivot, column, size)
                when(T.NE(pivot[0], column), lambda: _swap(rows, y, pivot, held, matrix, column))
                store(y, y[matrix] * rows[column, column], matrix)
                when(
                    T.NE(rows[column, column], number(0, dtype)),
                    lambda: _eliminate(rows, held, column),
                )

    return PlainCode(node, write)


def _find_pivot(rows: Buffer, pivot: Buffer, column: Expr, size: int) -> None:
    store(pivot, column, 0)
    with T.serial(0, size) as row:
        larger = T.abs(rows[row, column]) > T.abs(rows[pivot[0], column])
        when(T.And(row > column, larger), lambda: store(pivot, row, 0))


def _swap(
    rows: Buffer, y: Buffer, pivot: Buffer, held: Buffer, matrix: Expr, column: Expr
) -> None:
    with T.serial(0, int(rows.shape[0])) as j:
        store(held, rows[column, j], 0)
        store(rows, rows[pivot[0], j], column, j)
        store(rows, held[0], pivot[0], j)
    store(y, number(0, str(y.dtype)) - y[matrix], matrix)


def _eliminate(rows: Buffer, held: Buffer, column: Expr) -> None:
    size = int(rows.shape[0])
    with T.serial(0, size) as row:

        def subtract() -> None:
            store(held, rows[row, column] / rows[column, column], 0)
            with T.serial(0, size) as j:
                store(rows, rows[row, j] - held[0] * rows[column, j], row, j)

        when(row > column, subtract)


CODES = {"Det": determinant}
