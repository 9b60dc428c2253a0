"""Windows of images: where a maximum lies, its way back, sums of overlapping blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import when
from gcompile.backends.tvm.plain.code import PlainCode, Tensors, dtype_of, loops, number, store


@dataclass(frozen=True)
class _Window:
    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    begins: Sequence[int]

    @classmethod
    def of(cls, node: ir.Node, kernel: Sequence[int], begins: Sequence[int]) -> _Window:
        rank = len(kernel)
        strides, dilations = (
            list(node.attributes.get_ints(name, [1] * rank)) for name in ("strides", "dilations")
        )
        return cls(kernel, strides, dilations, begins)

    def place(self, output: Sequence[Expr], offset: Sequence[Expr]) -> list[Expr]:
        """Where in the input an element of a window lies."""
        return [
            o * s + k * d - b
            for o, k, s, d, b in zip(
                output, offset, self.strides, self.dilations, self.begins, strict=True
            )
        ]


def maximum_and_place(node: ir.Node) -> PlainCode | str:
    """MaxPool whose places are asked for."""
    shape, after = ir.static_shape(node.inputs[0]), ir.static_shape(node.outputs[0])
    if len(node.outputs) < 2 or not node.outputs[1].name:
        return "its places are not asked for"
    kernel = list(node.attributes.get_ints("kernel_shape", []))
    window = _Window.of(node, kernel, _begins(node, kernel, shape, after))
    is_column_major = bool(node.attributes.get_int("storage_order", 0))
    dtype, images = dtype_of(node.inputs[0]), shape[0] * shape[1]

    def write(tensors: Tensors) -> None:
        x = tensors.input(0, (images, *shape[2:]))
        y, places = (tensors.output(i, (images, *after[2:])) for i in (0, 1))
        best = T.alloc_buffer((1,), dtype, layout=None)
        where = T.alloc_buffer((1,), "int64", layout=None)
        with T.grid(images, *after[2:]) as (image, *out):
            store(where, number(-1, "int64"), 0)
            store(best, number(0, dtype), 0)
            with loops(kernel) as offset:
                place = window.place(out, offset)
                row = T.Cast("int64", image) * number(math.prod(shape[2:]), "int64")
                row = row + _row(place, shape[2:], is_column_major)
                value = x[(image, *place)]
                look = partial(_keep_larger, best, where, value, row)
                when(_inside(place, shape[2:]), look)
            store(y, best[0], image, *out)
            store(places, where[0], image, *out)

    return PlainCode(node, write)


def _keep_larger(best: Buffer, where: Buffer, value: Expr, row: Expr) -> None:
    def keep() -> None:
        store(best, value, 0)
        store(where, row, 0)

    when(T.Or(where[0] < number(0, "int64"), value > best[0]), keep)


def _begins(
    node: ir.Node, kernel: Sequence[int], shape: Sequence[int], after: Sequence[int]
) -> list[int]:
    rank = len(kernel)
    name = node.attributes.get_string("auto_pad", "NOTSET")
    if not name.startswith("SAME"):
        return list(node.attributes.get_ints("pads", [0] * 2 * rank))[:rank]
    strides, dilations = (
        list(node.attributes.get_ints(n, [1] * rank)) for n in ("strides", "dilations")
    )
    totals = [
        max((after[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - shape[2 + i], 0)
        for i in range(rank)
    ]
    return [total // 2 if name == "SAME_UPPER" else total - total // 2 for total in totals]


def put_back(node: ir.Node) -> PlainCode | str:
    """MaxUnpool: the maxima where they were, zeros elsewhere.

    Places count in the tensor that was pooled; a given output shape is larger than that.
    """
    shape, after = ir.static_shape(node.inputs[0]), ir.static_shape(node.outputs[0])
    kernel = list(node.attributes.get_ints("kernel_shape", []))
    rank = len(kernel)
    strides = list(node.attributes.get_ints("strides", [1] * rank))
    pads = list(node.attributes.get_ints("pads", [0] * 2 * rank))
    pooled = [
        (shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)
    ]
    count, dtype = math.prod(shape), dtype_of(node.inputs[0])
    whole = (*shape[:2], *pooled)

    def write(tensors: Tensors) -> None:
        x, places = tensors.flat(0), tensors.flat(1)
        y = tensors.output(0, after)
        with loops(after) as out:
            store(y, number(0, dtype), *out)
        with T.serial(0, count) as index:
            place = T.Bind(places[index])
            to = _unfolded(place, whole)
            when(_inside(to, after), lambda: store(y, x[index], *to))

    return PlainCode(node, write, reads=(0, 1))


def _unfolded(place: Expr, shape: Sequence[int]) -> list[Expr]:
    found: list[Expr] = []
    for axis, size in enumerate(shape):
        inner = number(math.prod(shape[axis + 1 :]), "int64")
        along = T.floordiv(place, inner)
        found.append(T.floormod(along, number(size, "int64")) if axis else along)
    return found


def add_blocks(node: ir.Node) -> PlainCode | str:
    """Col2Im: columns of blocks, added up where they overlap."""
    sizes, blocks = (ir.constant_array(node.inputs[i]) for i in (1, 2))
    if sizes is None or blocks is None:
        return "the sizes of its image or blocks are computed"
    size, kernel = [int(n) for n in sizes], [int(n) for n in blocks]
    rank = len(kernel)
    pads = list(node.attributes.get_ints("pads", [0] * 2 * rank))
    window = _Window.of(node, kernel, pads[:rank])
    counts = [
        (size[i] + pads[i] + pads[rank + i] - (kernel[i] - 1) * window.dilations[i] - 1)
        // window.strides[i]
        + 1
        for i in range(rank)
    ]
    dtype = dtype_of(node.inputs[0])
    images = math.prod(ir.static_shape(node.outputs[0])[:2])

    def write(tensors: Tensors) -> None:
        x = tensors.input(0, (images, *kernel, *counts))
        y = tensors.output(0, (images, *size))
        with T.grid(images, *size) as (image, *out):
            store(y, number(0, dtype), image, *out)
        with T.grid(images, *kernel, *counts) as (image, *inner):
            offset, block = list(inner[:rank]), list(inner[rank:])
            place = window.place(block, offset)
            to = (image, *place)
            when(_inside(place, size), lambda: store(y, y[to] + x[(image, *offset, *block)], *to))

    return PlainCode(node, write, reads=(0,))


def _inside(place: Sequence[Expr], sizes: Sequence[int]) -> Expr:
    found: Any = None
    for p, size in zip(place, sizes, strict=True):
        here = T.And(p >= 0, p < size)
        found = here if found is None else T.And(found, here)
    return found


def _row(place: Sequence[Expr], sizes: Sequence[int], is_column_major: bool) -> Expr:
    """The place of an element in a row of all."""
    order = range(len(sizes))
    row: Any = number(0, "int64")
    for axis in reversed(order) if is_column_major else order:
        row = row * number(sizes[axis], "int64") + T.Cast("int64", place[axis])
    return row


CODES = {"MaxPool": maximum_and_place, "MaxUnpool": put_back, "Col2Im": add_blocks}
