"""What the plain kernels share: a node's tensors as buffers, and loops over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import Argument, prim_func, view


@dataclass(frozen=True)
class PlainCode:
    """Code for one node, whose inputs that are given and outputs that are used are its arguments.

    Attributes:
        node: An input of it that is not there has no argument.
        write: Emits the statements, given the node's tensors.
        reads: The inputs that are read when the kernel runs.
    """

    node: ir.Node
    write: Callable[[Tensors], None]
    reads: Sequence[int] = tuple(range(16))

    @property
    def inputs(self) -> list[ir.Value]:
        """What the function takes."""
        given = enumerate(self.node.inputs)
        return [value for index, value in given if value is not None and index in self.reads]

    def function(self, name: str) -> PrimFunc:
        """Make a function: first the inputs, then the outputs."""
        values = [*self.inputs, *(value for value in self.node.outputs if is_there(value))]
        arguments = [
            Argument(f"t{index}", ir.static_shape(value), dtype_of(value))
            for index, value in enumerate(values)
        ]

        def body(buffers: list[Buffer]) -> None:
            self.write(Tensors(self.node, dict(zip(values, buffers, strict=True))))

        return prim_func(name, arguments, body)


class Tensors:
    """The buffers of a node's tensors, in their logical shape; a scalar has one axis."""

    def __init__(self, node: ir.Node, buffers: dict[ir.Value | None, Buffer]) -> None:
        self._node, self._buffers = node, buffers

    def input(self, index: int, shape: Sequence[int] | None = None) -> Buffer:
        """An input, perhaps under another shape."""
        return self._view(self._node.inputs[index], shape)

    def output(self, index: int = 0, shape: Sequence[int] | None = None) -> Buffer:
        """An output, perhaps under another shape."""
        return self._view(self._node.outputs[index], shape)

    def flat(self, index: int) -> Buffer:
        """An input as one row."""
        return self.input(index, (math.prod(ir.static_shape(self._node.inputs[index])),))

    def has_output(self, index: int) -> bool:
        """Say whether anybody reads the output."""
        return index < len(self._node.outputs) and is_there(self._node.outputs[index])

    def _view(self, value: ir.Value | None, shape: Sequence[int] | None) -> Buffer:
        own = tuple(shape) if shape is not None else ir.static_shape(value) or (1,)
        return view(self._buffers[value], own)


def is_there(value: ir.Value | None) -> bool:
    """Say whether an input is given, or an output is named."""
    return value is not None and bool(value.name)


def dtype_of(value: ir.Value | None) -> str:
    """The element type of a tensor."""
    dtype = value.dtype if value is not None else None
    return str((dtype or ir.DataType.FLOAT).numpy().name)


def store(buffer: Buffer, value: Any, *indices: Expr | int) -> None:
    """Write one element."""
    T.buffer_store(buffer, value, list(indices))


def number(value: float, dtype: str) -> Expr:
    """A constant of a type."""
    return tirx.const(value, dtype)


def broadcast(buffer: Buffer, places: Sequence[Expr]) -> Expr:
    """The element that stands at a place of a larger shape, by ONNX's rules."""
    sizes = [int(size) for size in buffer.shape]
    if not places:
        return buffer[tuple(0 for _ in sizes)]
    own = list(places)[len(places) - len(sizes) :]
    return buffer[tuple(p if size > 1 else 0 for p, size in zip(own, sizes, strict=True))]


def map_elements(
    tensors: Tensors, shape: tuple[int, ...], formula: Callable[[list[Expr]], Expr]
) -> None:
    """Write every element of the first output by a formula of its place."""
    output = tensors.output(0, shape or (1,))
    with loops(shape or (1,)) as places:
        store(output, formula(places), *places)


@contextmanager
def loops(sizes: Sequence[int]) -> Iterator[list[Expr]]:
    """Loops over all places of a shape."""
    if len(sizes) == 1:
        with T.serial(0, sizes[0]) as index:
            yield [index]
    else:
        with T.grid(*sizes) as indices:
            yield list(indices)


def differ(left: Expr, right: Expr) -> Expr:
    """Whether one of two conditions holds, and not both."""
    return T.Or(T.And(left, T.Not(right)), T.And(T.Not(left), right))
