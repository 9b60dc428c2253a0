"""What is found among elements, written to the front of a buffer, and how much that is."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import loop, when
from gcompile.backends.tvm.plain.code import PlainCode, Tensors, dtype_of, loops, number, store

WHOLE = "int64"


def register(dtype: str, start: float = 0) -> Buffer:
    """One number that changes."""
    buffer = T.alloc_buffer((1,), dtype, layout=None)
    store(buffer, number(start, dtype), 0)
    return buffer


def clear(buffer: Buffer, start: Expr | int = 0) -> None:
    """Fill a row with zeros from an element on."""
    size, zero = int(buffer.shape[0]), number(0, buffer.dtype)
    loop(start, size, lambda index: store(buffer, zero, index))


def places(node: ir.Node) -> PlainCode | str:
    """NonZero: a column of places for each element that is not zero."""
    shape = ir.static_shape(node.inputs[0])
    dtype, bound = dtype_of(node.inputs[0]), math.prod(shape)

    def write(tensors: Tensors) -> None:
        x, found = tensors.input(0, shape), tensors.output(0, (len(shape), bound))
        clear(tensors.output(0, (len(shape) * bound,)))
        count = register(WHOLE)
        with loops(shape) as place:

            def keep() -> None:
                for axis, index in enumerate(place):
                    store(found, T.Cast(WHOLE, index), axis, count[0])
                store(count, count[0] + number(1, WHOLE), 0)

            value = x[tuple(place)]
            when(value if dtype == "bool" else T.NE(value, number(0, dtype)), keep)
        store(tensors.output(1), count[0], 0)

    return PlainCode(node, write)


def different(node: ir.Node) -> PlainCode | str:
    """Unique elements or rows: each is looked for among those that were found before.

    Sorted, they are held in order, and a new one is put where it belongs.
    """
    shape = ir.static_shape(node.inputs[0])
    is_rows = node.op_type == "UniqueRows"
    count, width = (shape[0], math.prod(shape[1:])) if is_rows else (math.prod(shape), 1)
    (bound,) = node.attributes.get_ints("bound")
    is_sorted = bool(node.attributes.get_int("sorted", 1))

    def write(tensors: Tensors) -> None:
        x = tensors.input(0, (count, width))
        first = T.alloc_buffer((bound,), WHOLE, layout=None)
        group = T.alloc_buffer((count,), WHOLE, layout=None)
        order = T.alloc_buffer((bound,), WHOLE, layout=None)
        found, at, is_new = (register(WHOLE) for _ in range(3))
        search = _Search(x, first, order, at, is_new)
        with T.serial(0, count) as row:
            search.look(row, found[0], is_sorted)

            def add() -> None:
                with T.serial(0, found[0] - at[0]) as back:
                    last = found[0] - T.Cast(WHOLE, back)
                    store(order, order[last - number(1, WHOLE)], last)
                store(order, found[0], at[0])
                store(first, T.Cast(WHOLE, row), found[0])
                store(group, found[0], row)
                store(found, found[0] + number(1, WHOLE), 0)

            def join() -> None:
                store(group, order[at[0]], row)

            when(T.NE(is_new[0], number(0, WHOLE)), add)
            when(T.EQ(is_new[0], number(0, WHOLE)), join)
        _give(tensors, x, first, group, order, found[0])

    return PlainCode(node, write)


class _Search:
    """Finds a row among those found before, or where it belongs."""

    def __init__(
        self, x: Buffer, first: Buffer, order: Buffer, at: Buffer, is_new: Buffer
    ) -> None:
        self.x, self.first, self.order, self.at, self.is_new = x, first, order, at, is_new
        self.sign = register(WHOLE)

    def look(self, row: Expr, found: Expr, is_sorted: bool) -> None:
        """Set `at` to the place in the order, and whether nothing equal stands there."""
        one = number(1, WHOLE)
        store(self.at, found, 0)
        store(self.is_new, one, 0)
        is_open = register(WHOLE, 1)
        with T.serial(0, found) as place, T.If(T.NE(is_open[0], number(0, WHOLE))), T.Then():
            self._compare(self.first[self.order[place]], row)

            def stop() -> None:
                store(self.at, T.Cast(WHOLE, place), 0)
                store(is_open, number(0, WHOLE), 0)
                equal = T.EQ(self.sign[0], number(0, WHOLE))
                store(self.is_new, T.Select(equal, number(0, WHOLE), one), 0)

            ends = self.sign[0] >= number(0, WHOLE) if is_sorted else T.EQ(
                self.sign[0], number(0, WHOLE))  # fmt: skip
            when(ends, stop)

    def _compare(self, known: Expr, row: Expr) -> None:
        """Set the sign of the first difference: minus one where the known row comes first."""
        zero, one = number(0, WHOLE), number(1, WHOLE)
        store(self.sign, zero, 0)
        with T.serial(0, int(self.x.shape[1])) as column:
            a, b = self.x[known, column], self.x[row, column]
            sign = T.Select(a < b, number(-1, WHOLE), T.Select(b < a, one, zero))
            when(T.EQ(self.sign[0], zero), lambda: store(self.sign, sign, 0))


def _give(
    tensors: Tensors, x: Buffer, first: Buffer, group: Buffer, order: Buffer, found: Expr
) -> None:
    """Write the outputs that are asked for; `order` leads from places to groups."""
    count, width = (int(size) for size in x.shape)
    bound = int(first.shape[0])
    rank = T.alloc_buffer((bound,), WHOLE, layout=None)
    loop(0, found, lambda place: store(rank, T.Cast(WHOLE, place), order[place]))
    if tensors.has_output(0):
        values = tensors.output(0, (bound, width))
        clear(tensors.output(0, (bound * width,)))
        with T.serial(0, found) as place, T.serial(0, width) as column:
            store(values, x[first[order[place]], column], place, column)
    if tensors.has_output(1):
        clear(tensors.output(1))
        loop(0, found, lambda p: store(tensors.output(1), first[order[p]], p))
    if tensors.has_output(2):
        loop(0, count, lambda row: store(tensors.output(2), rank[group[row]], row))
    if tensors.has_output(3):
        repeats = tensors.output(3)
        clear(repeats)
        with T.serial(0, count) as row:
            place = rank[group[row]]
            store(repeats, repeats[place] + number(1, WHOLE), place)
    store(tensors.output(4), found, 0)


CODES: dict[str, Callable[[ir.Node], PlainCode | str]] = {
    "NonZero": places, "Unique": different, "UniqueRows": different,
}  # fmt: skip
