"""What operators that move parts of tensors copy: boxes of logical axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.stored_numbers import scalar

_MOST = 64
"""Boxes of one kernel: each is code of its own."""


@dataclass(frozen=True)
class Run:
    """Equally spaced elements of one axis: `size` of them from `start`, written from `place`.

    A step of -1 mirrors, 0 repeats one element.
    """

    start: int
    place: int
    size: int
    step: int = 1


@dataclass(frozen=True)
class Box:
    """One run along every logical axis of the source; the output has as many axes.

    Attributes:
        source: Index of the source.
    """

    source: int
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Copy:
    """One output of an operator that only copies.

    Attributes:
        sources: The values that boxes read.
        result: The value that is written.
        shape: Its shape, with an axis of size 1 in place of each that the operator dropped.
        fill: The real number where no box is; None where boxes cover everything.
    """

    sources: tuple[ir.Value, ...]
    result: ir.Value
    shape: tuple[int, ...]
    boxes: tuple[Box, ...]
    fill: float | None = None


def copies_of(node: ir.Node) -> tuple[Copy, ...]:
    """Read a node as copies, one for each output that is used.

    Raises:
        CannotEmitError: A parameter is not constant, or there are too many boxes.
    """
    if node.op_type not in _READERS or node.domain:
        raise CannotEmitError(f"{node.op_type} is not a copy of boxes")
    copies = _READERS[node.op_type](node)
    if any(len(copy.boxes) > _MOST for copy in copies):
        raise CannotEmitError(f"{node.op_type} copies more than {_MOST} boxes")
    return copies


def _concat(node: ir.Node) -> tuple[Copy, ...]:
    values = tuple(value for value in node.inputs if value is not None)
    shape = ir.static_shape(node.outputs[0])
    axis, place = node.attributes.get_int("axis", 0) % len(shape), 0
    boxes = []
    for index, value in enumerate(values):
        sizes = ir.static_shape(value)
        runs = _whole(sizes)
        runs[axis] = replace(runs[axis], place=place)
        place += sizes[axis]
        if math.prod(sizes):
            boxes.append(Box(index, tuple(runs)))
    return (Copy(values, node.outputs[0], shape, tuple(boxes)),)


def _slice(node: ir.Node) -> tuple[Copy, ...]:
    x = _first(node)
    sizes = ir.static_shape(x)
    starts, ends = _integers(node, 1), _integers(node, 2)
    axes = _integers(node, 3, range(len(starts)))
    steps = _integers(node, 4, [1] * len(starts))
    runs = _whole(sizes)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = sizes[axis % len(sizes)]
        # The smallest integer stands for "from the end on" when steps are negative.
        stop = None if step < 0 and end < -size else end
        picked = range(*slice(start, stop, step).indices(size))
        runs[axis % len(sizes)] = Run(picked.start, 0, len(picked), step)
    return (Copy((x,), node.outputs[0], _extents(runs), (Box(0, tuple(runs)),)),)


def _split(node: ir.Node) -> tuple[Copy, ...]:
    x = _first(node)
    sizes = ir.static_shape(x)
    axis, start = node.attributes.get_int("axis", 0) % len(sizes), 0
    copies = []
    for value in node.outputs:
        shape = ir.static_shape(value)
        runs = _whole(sizes)
        runs[axis] = Run(start, 0, shape[axis])
        start += shape[axis]
        if value.uses() or value.is_graph_output():
            copies.append(Copy((x,), value, shape, (Box(0, tuple(runs)),)))
    return tuple(copies)


def _pad(node: ir.Node) -> tuple[Copy, ...]:
    x, amounts = _first(node), _integers(node, 1)
    sizes, mode = ir.static_shape(x), node.attributes.get_string("mode", "constant")
    axes = [a % len(sizes) for a in _integers(node, 3, range(len(sizes)))]
    along = [[run] for run in _whole(sizes)]
    for axis, before, after in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        along[axis] = _padded(sizes[axis], before, after, mode)
    boxes = tuple(Box(0, runs) for runs in itertools.islice(itertools.product(*along), _MOST + 1))
    result, fill = node.outputs[0], None
    if mode == "constant":
        fill = scalar(node.inputs[2] if len(node.inputs) > 2 else None, 0.0)
    return (Copy((x,), result, ir.static_shape(result), boxes, fill),)


def _padded(size: int, before: int, after: int, mode: str) -> list[Run]:
    """The runs along one padded axis; negative amounts cut."""
    kept = Run(max(-before, 0), max(before, 0), size + min(before, 0) + min(after, 0))
    end = kept.place + kept.size
    if mode == "constant":
        return [kept]
    if min(before, after) < 0 or mode not in ("edge", "reflect"):
        raise CannotEmitError(f"Pad cuts, or has the mode {mode!r}")
    if mode == "edge":
        borders = [Run(0, 0, before, 0), Run(size - 1, end, after, 0)]
    elif max(before, after) >= size:
        raise CannotEmitError("Pad reflects more than there is")
    else:
        borders = [Run(before, 0, before, -1), Run(size - 2, end, after, -1)]
    return [kept, *(run for run in borders if run.size)]


def _expand(node: ir.Node) -> tuple[Copy, ...]:
    x, result = _first(node), node.outputs[0]
    shape = ir.static_shape(result)
    sizes = (1,) * (len(shape) - len(ir.static_shape(x))) + ir.static_shape(x)
    runs = [
        Run(0, 0, wanted, 1 if size == wanted else 0)
        for size, wanted in zip(sizes, shape, strict=True)
    ]
    return (Copy((x,), result, shape, (Box(0, tuple(runs)),)),)


def _tile(node: ir.Node) -> tuple[Copy, ...]:
    x, repeats = _first(node), _integers(node, 1)
    along = [
        [Run(0, size * i, size) for i in range(times)]
        for size, times in zip(ir.static_shape(x), repeats, strict=True)
    ]
    boxes = tuple(Box(0, runs) for runs in itertools.islice(itertools.product(*along), _MOST + 1))
    return (Copy((x,), node.outputs[0], ir.static_shape(node.outputs[0]), boxes),)


def _gather(node: ir.Node) -> tuple[Copy, ...]:
    """Constant indices, of which neighbours are equally spaced: one box for each such run."""
    x, array = _first(node), ir.constant_array(node.inputs[1])
    if array is None or array.ndim > 1:
        raise CannotEmitError("the indices of Gather are not a constant list")
    sizes = ir.static_shape(x)
    axis = node.attributes.get_int("axis", 0) % len(sizes)
    indices = [int(i) % sizes[axis] for i in array.reshape(-1)]
    boxes = []
    for found in _runs_of(indices):
        runs = _whole(sizes)
        runs[axis] = found
        boxes.append(Box(0, tuple(runs)))
    shape = (*sizes[:axis], len(indices), *sizes[axis + 1 :])
    return (Copy((x,), node.outputs[0], shape, tuple(boxes)),)


def _runs_of(indices: Sequence[int]) -> list[Run]:
    """Cut a list into runs of equal steps, each as long as possible."""
    runs: list[Run] = []
    place = 0
    while place < len(indices):
        start, size, step = indices[place], 1, 1
        if place + 1 < len(indices):
            step, size = indices[place + 1] - start, 2
            while place + size < len(indices) and indices[place + size] == start + size * step:
                size += 1
        runs.append(Run(start, place, size, step))
        place += size
    return runs


_READERS = {
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
    "Gather": _gather,
}
COPIES = frozenset(_READERS)


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    if value is None:
        raise CannotEmitError("an input is missing")
    return value


def _whole(sizes: Sequence[int]) -> list[Run]:
    return [Run(0, 0, size) for size in sizes]


def _extents(runs: Sequence[Run]) -> tuple[int, ...]:
    return tuple(run.size for run in runs)


def _integers(node: ir.Node, slot: int, default: Sequence[int] | None = None) -> list[int]:
    value = node.inputs[slot] if slot < len(node.inputs) else None
    if value is None and default is not None:
        return list(default)
    array = ir.constant_array(value)
    if array is None:
        raise CannotEmitError(f"a parameter of {node.op_type} is not constant")
    return [int(number) for number in np.asarray(array).reshape(-1)]
