"""Where the vectors of attention lie in tensors that are in memory anyway.

Between a projection and the products of attention stand reshapes, transposes, slices and the
conversions of narrow storage. All of them only say where a vector lies and how it is stored, so
the kernel reads it there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.attention.vectors import Reader, Rows, Stored
from gcompile.ir.constants import constant_array, is_constant
from gcompile.ir.quantization import quantization_of
from gcompile.ir.shapes import static_shape
from gcompile.ir.strided import MOVES, Strided

PARTS = ("Slice", "Split", "Gather")
_MOVES = MOVES | frozenset(PARTS)


@dataclass(frozen=True, slots=True)
class View:
    """A tensor within the memory of another: where its first element lies, and the steps."""

    at: Strided
    offset: int = 0

    def after(self, node: onnx_ir.Node, value: onnx_ir.Value) -> View | None:
        """The output `value` of a node on this, None where it is not in the same memory."""
        if node.op_type in MOVES:
            moved = self.at.after(node)
            return None if moved is None else View(moved, self.offset)
        if node.op_type in PARTS:
            return self._part(node, value)
        return self

    @property
    def transposed(self) -> View:
        """The view with its last two axes exchanged."""
        shape, steps = self.at.shape, self.at.strides
        at = Strided((*shape[:-2], shape[-1], shape[-2]), (*steps[:-2], steps[-1], steps[-2]))
        return View(at, self.offset)

    def _part(self, node: onnx_ir.Node, value: onnx_ir.Value) -> View | None:
        found = _first_of_part(node, value, self.at.shape)
        if found is None:
            return None
        axis, first = found
        shape = static_shape(value)
        steps = self.at.strides
        if node.op_type == "Gather":
            steps = steps[:axis] + steps[axis + 1 :]
        return View(Strided(shape, steps), self.offset + first * self.at.strides[axis])


@dataclass
class Storing:
    """How a value on a path of moves and conversions is stored.

    Attributes:
        reader: Knows some types.
        numbers: Scale and zero point of all conversions passed; None before the first.
    """

    reader: Reader
    numbers: tuple[float, int] | None = None

    def passes(self, node: onnx_ir.Node) -> bool:
        """Go past a node; say whether the numbers stored before and after it are the same."""
        if node.domain:
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found = quantization_of(node)
            if found is None:
                return False
            if self.numbers is None:
                self.numbers = found
            return self.numbers == found
        if node.op_type == "Cast":
            source = node.inputs[0]
            types = (onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.FLOAT)
            return source is not None and source.dtype in types and node.outputs[0].dtype in types
        return node.op_type in _MOVES

    def of(self, value: onnx_ir.Value) -> Stored | None:
        """How the value is stored, None where the kernel knows no such storage."""
        if value.dtype is None or value.dtype not in self.reader.types:
            return None
        found = Stored(value.dtype)
        if found.is_integer != (self.numbers is not None):
            return None
        return Stored(value.dtype, *self.numbers) if self.numbers is not None else found


@dataclass(frozen=True)
class Candidate:
    """A tensor in memory, an operand as a view of it, and the nodes between them."""

    value: onnx_ir.Value
    stored: Stored
    view: View
    passed: frozenset[onnx_ir.Node]


def operand_views(
    value: onnx_ir.Value, written: Collection[onnx_ir.Value], reader: Reader
) -> list[Candidate]:
    """Find the tensors in memory that an operand is a view of.

    Args:
        value: The operand of a product.
        written: The values that are in memory.
        reader: Knows some types. One that takes moves along does not take conversions.

    Returns:
        Tensors of such types with the operand's view, the nearest first.
    """
    path: list[tuple[onnx_ir.Node, onnx_ir.Value]] = []
    found: list[Candidate] = []
    storing = Storing(reader)
    while True:
        stored = storing.of(value)
        if reader.takes_moves and found and stored is not None and stored != found[0].stored:
            return found
        if stored is not None and value in written and not is_constant(value):
            view: View | None = View(Strided.of(static_shape(value)))
            for node, result in path:
                view = view.after(node, result) if view is not None else None
            if view is not None:
                passed = frozenset(node for node, _ in path)
                found.append(Candidate(value, stored, view, passed))
        producer = value.producer()
        if producer is None or producer.inputs[0] is None or not storing.passes(producer):
            return found
        path.insert(0, (producer, value))
        value = producer.inputs[0]


def rows_of(view: View, shape: tuple[int, int, int, int], unit: int = 1) -> Rows | None:
    """The view as (batch, heads, vectors, depth), None where the kernel cannot read it so.

    Args:
        view: Any shape of as many elements.
        shape: The sizes; one sequence or one head stands for all of them.
        unit: Elements that are copied at once; vectors must begin at multiples of it.
    """
    at = view.at.reshaped(shape)
    if at is None or (at.strides[3] != 1 and shape[3] > 1):
        return None
    steps = [step if size > 1 else 0 for size, step in zip(shape, at.strides, strict=True)]
    if any(step % unit for step in (*steps[:3], view.offset)):
        return None
    return Rows(steps[0], steps[1], steps[2] or shape[3], view.offset)


def written_rows(moved: Strided, shape: tuple[int, int, int, int]) -> Rows | None:
    """Where (batch, heads, vectors, depth) lies in a tensor that was made of it by moves.

    Args:
        moved: The tensor's axes, as steps in (batch, heads, vectors, depth) in row order.
        shape: The sizes.
    """
    own = Strided.of(shape).strides
    places = list(zip(moved.shape, moved.strides, Strided.of(moved.shape).strides, strict=True))
    steps = []
    for size, step in zip(shape, own, strict=True):
        if size == 1:
            steps.append(0)
            continue
        inside = [
            to * (step // by)
            for count, by, to in places
            if count > 1 and step % by == 0 and step * size <= by * count
        ]
        if not inside:
            return None
        steps.append(inside[0])
    if shape[3] > 1 and steps[3] != 1:
        return None
    return Rows(steps[0], steps[1], steps[2] or shape[3])


def right_heads(left: tuple[int, ...], right: tuple[int, ...], batch: int) -> int | None:
    """How many right operands each sequence has; 0 where all share one.

    Args:
        left: Leading axes of the left operand, which the result has too.
        right: Leading axes of the right one.
        batch: Sequences.
    """
    padded = (1,) * (len(left) - len(right)) + right
    count = math.prod(padded)
    if count == 1:
        return 1 if batch == 1 else 0
    kept = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, padded)))  # noqa: B905 - as many as agree
    if math.prod(b for _, b in kept) != count or count % batch:
        return None
    return count // batch


def _first_of_part(
    node: onnx_ir.Node, value: onnx_ir.Value, shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """The axis that a node takes a part of, and the first index of the part."""
    axis = node.attributes.get_int("axis", 0) % len(shape)
    if node.op_type == "Split":
        before = node.outputs[: list(node.outputs).index(value)]
        return axis, sum(static_shape(part)[axis] for part in before)
    if node.op_type == "Gather":
        index = constant_array(node.inputs[1])
        return None if index is None or index.shape else (axis, int(index) % shape[axis])
    starts, ends, axes, steps = (_integers(node, slot) for slot in (1, 2, 3, 4))
    if starts is None or ends is None or len(starts) != 1 or (steps or [1]) != [1]:
        return None
    axis = (axes or [0])[0] % len(shape)
    first = starts[0] + shape[axis] if starts[0] < 0 else starts[0]
    return axis, min(max(first, 0), shape[axis])


def _integers(node: onnx_ir.Node, slot: int) -> list[int] | None:
    array = constant_array(node.inputs[slot]) if len(node.inputs) > slot else None
    return None if array is None else [int(number) for number in array.reshape(-1)]
