"""Buffers that are cut and joined: elements that count stay in front of those that do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.bounded.sizes import Bounded, Number, Size
from gcompile.ir.bounded.step import CannotBoundError, Result, Step

_TO_THE_END = (1 << 31) - 1
"""Ends of slices beyond any size: exporters write the largest number of 32 or 64 bits."""


def cut(step: Step) -> Sequence[Result]:
    """A part of each axis; of counted ones, a part that begins at a known place.

    count' = clip(end, 0, count) - start, and not less than zero
    """
    shape, own = step.static(0), step.bounded(0)
    starts, ends = (step.numbers(index).reshape(-1) for index in (1, 2))
    axes = step.numbers(3).reshape(-1) if step.has(3) else np.arange(len(starts))
    steps = step.numbers(4).reshape(-1) if step.has(4) else np.ones(len(starts), int)
    if any(isinstance(axis, Number) for axis in axes):
        raise CannotBoundError("its axes are computed")
    value, bounded = step.input(0), dict(own.axes)
    for place, axis in enumerate(int(axis) % len(shape) for axis in axes):
        start, end, by = starts[place], ends[place], steps[place]
        if isinstance(start, Number) or isinstance(by, Number):
            raise CannotBoundError("it begins or steps by a computed number")
        if axis not in bounded and not isinstance(end, Number):
            value = _plain_cut(step, value, axis, (start, end, by))
            continue
        if by != 1 or start < 0:
            raise CannotBoundError("it cuts a counted size from its end")
        value, bounded[axis] = _counted_cut(step, value, axis, place, bounded.get(axis))
    return [Result(Bounded(bounded, own.is_clean), value)]


def _plain_cut(
    step: Step, value: onnx_ir.Value, axis: int, bounds: tuple[int, int, int]
) -> onnx_ir.Value:
    start, end, by = (step.constant([number]) for number in bounds)
    return step.op("Slice", value, start, end, step.constant([axis]), by)


def _counted_cut(
    step: Step, value: onnx_ir.Value, axis: int, place: int, size: Size | None
) -> tuple[onnx_ir.Value, Size]:
    start, end = (step.numbers(index).reshape(-1)[place] for index in (1, 2))
    rows = step.constant([_rows(value, axis)])
    count = size.count if size is not None else rows
    most_rows = _rows(value, axis)
    if isinstance(end, Number):
        flat = step.op("Reshape", step.input(2), step.constant([-1]))
        stop = step.op("Gather", step.cast(flat, onnx_ir.DataType.INT64), step.constant([place]))
        most_rows = min(most_rows, end.most)
    else:
        stop = step.constant([min(end, _TO_THE_END)])
        most_rows = min(most_rows, end) if end >= 0 else most_rows
    zero = step.constant([0])
    stop = step.op("Where", step.op("Less", stop, zero), step.op("Add", stop, count), stop)
    left = step.op("Sub", step.op("Min", stop, count), step.constant([start]))
    left = step.op("Max", left, zero)
    part = _plain_cut(step, value, axis, (start, most_rows, 1))
    before = size.key if size is not None else str(_rows(value, axis))
    stopped = end.key if isinstance(end, Number) else str(end)
    is_same = size is not None and start == 0 and not isinstance(end, Number) and end >= size.most
    if is_same and size is not None:
        return value, size
    return part, Size(max(most_rows - start, 0), f"{before}[{start}:{stopped}]", left)


def _rows(value: onnx_ir.Value, axis: int) -> int:
    assert value.shape is not None
    return int(value.shape.numpy()[axis])


def join(step: Step) -> Sequence[Result]:
    """Tensors beside each other, or one after the other without what does not count."""
    count, rank = len(step.node.inputs), len(step.static(0))
    axis = step.axis(0, rank)
    parts = [step.bounded(index) for index in range(count)]
    others: dict[int, Size] = {}
    for part in parts:
        for place, size in part.axes.items():
            if place != axis and others.setdefault(place, size).key != size.key:
                raise CannotBoundError("it reads sizes that are counted apart")
    if any(place not in part.axes for place in others for part in parts):
        raise CannotBoundError("it puts counted sizes beside others")
    if not any(axis in part.axes for part in parts):
        return [Result(Bounded(others, all(part.is_clean for part in parts)))]
    raw = step.op("Concat", *step.node.inputs, axis=axis)
    places, total = _closed_up(step, [part.axes.get(axis) for part in parts], axis)
    rows = _rows(raw, axis)
    key = "+".join(
        part.axes[axis].key if axis in part.axes else str(step.static(index)[axis])
        for index, part in enumerate(parts)
    )
    value = step.op("Gather", raw, places, axis=axis)
    return [Result(Bounded({**others, axis: Size(rows, f"({key})", total)}), value)]


def _closed_up(
    step: Step, sizes: Sequence[Size | None], axis: int
) -> tuple[onnx_ir.Value, onnx_ir.Value]:
    """Where the rows stand that count, and how many they are."""
    rows = [step.static(index)[axis] for index in range(len(sizes))]
    counts = [
        size.count if size is not None else step.constant([rows[index]])
        for index, size in enumerate(sizes)
    ]
    number = step.constant(np.arange(sum(rows)))
    places, total, offset = number, counts[0], rows[0]
    for index in range(1, len(rows)):
        moved = step.op("Add", step.op("Sub", number, total), step.constant([offset]))
        places = step.op("Where", step.op("Less", number, total), places, moved)
        total, offset = step.op("Add", total, counts[index]), offset + rows[index]
    last = step.constant([sum(rows) - 1])
    return step.op("Min", places, last), total


def split(step: Step) -> Sequence[Result]:
    """Parts along an axis that is not counted."""
    axis = step.axis(0, len(step.static(0)))
    if axis in step.bounded(0).axes:
        raise CannotBoundError("it divides a counted size")
    return [Result(step.bounded(0))] * len(step.node.outputs)


CUTS = {"Slice": cut, "Concat": join, "Split": split}
