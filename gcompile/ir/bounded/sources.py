"""Where sizes that are counted begin: what finds elements, and what is cut by computed numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.bounded.sizes import (
    UNLIMITED,
    Bounded,
    Number,
    Size,
    most,
    objects,
)
from gcompile.ir.bounded.step import CannotBoundError, Result, Step

_INT64, _FLOAT = onnx_ir.DataType.INT64, onnx_ir.DataType.FLOAT
_MOST_ELEMENTS = 1 << 28
"""Elements of a buffer that is made."""


def non_zero(step: Step) -> Sequence[Result]:
    """The places of elements that are not zero: at most all."""
    x = step.masked(step.input(0), dict(step.bounded(0).axes), 0)
    return [_places(step, x, step.static(0))]


def _places(step: Step, x: onnx_ir.Value, shape: Sequence[int]) -> Result:
    if not shape:
        raise CannotBoundError("a single number has no places")
    bound = math.prod(shape)
    places, count = step.bounding("NonZero", 2, x, bound=[bound])
    size = Size(bound, f"#{step.node.name}", count)
    return Result(Bounded({1: size}, is_clean=True), places)


def compress(step: Step) -> Sequence[Result]:
    """What a computed condition keeps: rows at the places where it is true."""
    shape = step.static(0)
    x, axis = step.input(0), step.axis(0, len(shape))
    if "axis" not in step.node.attributes:
        if step.bounded(0).axes:
            raise CannotBoundError("it picks from all elements of a tensor whose size is counted")
        x, axis = step.op("Reshape", x, step.constant([-1])), 0
    condition = step.masked(step.input(1), dict(step.bounded(1).axes), False)
    found = _places(step, condition, step.static(1))
    assert found.value is not None
    row = step.op("Squeeze", found.value, step.constant([0]))
    picked = step.op("Gather", x, row, axis=axis)
    others = {a: s for a, s in step.bounded(0).axes.items() if a != axis}
    return [Result(Bounded({**others, axis: found.bounded.axes[1]}), picked)]


def non_maximum_suppression(step: Step) -> Sequence[Result]:
    """Boxes that overlap no better one: of each class at most as many as there are, or asked for.

    Boxes that do not count have the lowest score, which no threshold lets through.
    """
    shape = step.static(1)
    lowest = float(np.finfo(np.float32).min)
    scores = step.masked(step.input(1), dict(step.bounded(1).axes), -math.inf)
    asked = step.numbers(2).reshape(-1)[0] if step.has(2) else 0
    each = min(most(asked), shape[2])
    if each <= 0:
        return [Result(value=step.constant(np.zeros((0, 3), np.int64)))]
    bound = shape[0] * shape[1] * each
    limits = [
        step.cast(step.input(2), _INT64),
        step.input(3) if step.has(3) else step.number(0.0, _FLOAT),
        step.input(4) if step.has(4) else step.number(lowest, _FLOAT),
    ]
    picked, count = step.bounding(
        "NonMaxSuppression", 2, step.input(0), scores, *limits, bound=[bound],
        center_point_box=step.integer("center_point_box", 0),
    )  # fmt: skip
    return [Result(Bounded({0: Size(bound, f"#{step.node.name}", count)}, is_clean=True), picked)]


def unique(step: Step) -> Sequence[Result]:
    """The different elements, or rows along an axis."""
    shape = step.static(0)
    if step.bounded(0).axes:
        raise CannotBoundError("it reads a tensor whose size is counted")
    is_sorted = step.integer("sorted", 1)
    x, along = step.input(0), None
    if "axis" in step.node.attributes:
        along = step.axis(0, len(shape))
        x = _swapped(step, x, along, len(shape))
    operator, bound = ("Unique", math.prod(shape)) if along is None else (
        "UniqueRows", shape[along])  # fmt: skip
    values, first, inverse, repeats, count = step.bounding(
        operator, 5, x, bound=[bound], sorted=is_sorted
    )
    size = Size(bound, f"#{step.node.name}", count)
    if along is not None:
        values = _swapped(step, values, along, len(shape))
    rows, plain = Bounded({0: size}, is_clean=True), Bounded()
    results = [Result(Bounded({along or 0: size}), values), Result(rows, first),
               Result(plain, inverse), Result(rows, repeats)]  # fmt: skip
    return results[: len(step.node.outputs)]


def _swapped(step: Step, x: onnx_ir.Value, axis: int, rank: int) -> onnx_ir.Value:
    """The axis at the front, or back again."""
    order = list(range(rank))
    order[0], order[axis] = order[axis], order[0]
    return step.op("Transpose", x, perm=order) if axis else x


def span(step: Step) -> Sequence[Result]:
    """Range from a known number to a computed one, step one."""
    start, limit, delta = (step.numbers(i).reshape(-1)[0] for i in range(3))
    if isinstance(start, Number) or delta != 1 or not isinstance(limit, Number):
        raise CannotBoundError("it begins or steps by a computed number")
    _check_limit(limit.most)
    size = step.size(1, 0, limit, limit.most)
    if start:
        count = step.op("Sub", size.count, step.constant([start]))
        size = step.derived(size, limit.most - start, f"-{start}", count)
    dtype = step.dtype(0).numpy()
    return [Result(Bounded({0: size}), step.constant(np.arange(start, limit.most).astype(dtype)))]


def constant_of_shape(step: Step) -> Sequence[Result]:
    """A constant of the largest shape."""
    sizes = step.numbers(0).reshape(-1)
    shape = [most(number) for number in sizes]
    _check_limit(math.prod(shape))
    value = step.node.attributes.get_tensor("value", None)
    filled = np.zeros(1, np.float32) if value is None else value.numpy().reshape(-1)
    return [Result(_sizes_of(step, 0, sizes), step.constant(np.full(shape, filled[0])))]


def expand(step: Step) -> Sequence[Result]:
    """Copies up to the largest shape."""
    before, sizes = step.static(0), step.numbers(1).reshape(-1)
    shape = [most(number) for number in sizes]
    _check_limit(math.prod(shape))
    asked = _sizes_of(step, 1, sizes)
    rank = max(len(before), len(shape))
    own = step.bounded(0).moved(lambda axis: axis + rank - len(before))
    asked = asked.moved(lambda axis: axis + rank - len(shape))
    for axis, size in asked.axes.items():
        place = axis - rank + len(before)
        width = before[place] if place >= 0 else 1
        if axis in own.axes:
            if own.axes[axis].key != size.key:
                raise CannotBoundError("it reads sizes that are counted apart")
        elif width != 1:
            raise CannotBoundError("it stretches rows that are not counted to a counted size")
    value = step.op("Expand", step.input(0), step.constant(shape))
    return [Result(Bounded({**asked.axes, **own.axes}, own.is_clean), value)]


def _sizes_of(step: Step, index: int, numbers: np.ndarray) -> Bounded:
    found = {
        axis: step.size(index, axis, number, number.most)
        for axis, number in enumerate(numbers)
        if isinstance(number, Number)
    }
    return Bounded(found)


def _check_limit(elements: int) -> None:
    if elements >= UNLIMITED:
        raise CannotBoundError("nothing says how large its result may become")
    if elements > _MOST_ELEMENTS:
        raise CannotBoundError(f"its result may have {elements:.1e} elements")


def largest(step: Step) -> Sequence[Result]:
    """TopK: of a computed number, at most all; elements that do not count come last."""
    shape = step.static(0)
    axis, (asked,) = step.axis(-1, len(shape)), step.numbers(1).reshape(-1)
    bounded = step.bounded(0)
    x, dtype = step.input(0), step.dtype(0).numpy()
    if axis in bounded.axes:
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        ends = (-math.inf, math.inf) if dtype.kind == "f" else (limits.min, limits.max)
        is_largest = step.integer("largest", 1)
        x = step.masked(x, {axis: bounded.axes[axis]}, ends[0 if is_largest else 1])
    others = {a: s for a, s in bounded.axes.items() if a != axis}
    if isinstance(asked, Number):
        size = step.size(1, 0, asked, min(asked.most, shape[axis]))
        others[axis] = size
        count = size.most
    else:
        count = min(asked, shape[axis])
    values, places = step.same_outputs("TopK", 2, x, step.constant([count]))
    return [Result(Bounded(others), values), Result(Bounded(others), places)]


def shape_of(step: Step) -> Sequence[Result]:
    """The sizes of a buffer, of which some are counted."""
    shape, axes = step.static(0), step.bounded(0).axes
    start, end = step.integer("start", 0), step.integer("end", len(shape))
    numbers = objects([Number(s, axes[a].key) if a in axes else s for a, s in enumerate(shape)])
    if not any(axis in axes for axis in range(len(shape))[start:end]):
        return [step.fixed(numbers[start:end])]
    parts = [
        axes[axis].count if axis in axes else step.constant([size])
        for axis, size in enumerate(shape)
    ][start:end]
    value = step.op("Concat", *parts, axis=0)
    return [Result(value=value, numbers=numbers[start:end])]


SOURCES = {
    "NonZero": non_zero,
    "Compress": compress,
    "NonMaxSuppression": non_maximum_suppression,
    "Unique": unique,
}
"""Operators that count what they find."""

BY_NUMBERS = {
    "Range": span,
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "TopK": largest,
}
"""Operators whose result has a size that is given as a number."""
