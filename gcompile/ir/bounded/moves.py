"""Buffers that are moved: elements that count stay in front of those that do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.bounded.sizes import Bounded, Number, Numbers, Size, are_known, most
from gcompile.ir.bounded.step import CannotBoundError, Result, Step


def transpose(step: Step) -> Sequence[Result]:
    """Other axes in front."""
    rank = len(step.static(0))
    order = list(step.node.attributes.get_ints("perm", list(range(rank))[::-1]))
    return [Result(step.bounded(0).moved(order.index))]


def squeeze(step: Step) -> Sequence[Result]:
    """Without axes of size one."""
    shape, axes = step.static(0), step.known(1)
    gone = [i for i, s in enumerate(shape) if s == 1] if axes is None else [
        int(axis) % len(shape) for axis in axes.reshape(-1)]  # fmt: skip
    if any(axis in step.bounded(0).axes for axis in gone):
        raise CannotBoundError("it drops an axis whose size is counted")
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return [Result(step.bounded(0).moved(kept.index))]


def unsqueeze(step: Step) -> Sequence[Result]:
    """With new axes of size one."""
    axes = step.known(1)
    if axes is None:
        raise CannotBoundError("its axes are computed")
    rank = len(step.static(0)) + axes.size
    new = {int(axis) % rank for axis in axes.reshape(-1)}
    old = [axis for axis in range(rank) if axis not in new]
    return [Result(step.bounded(0).moved(lambda axis: old[axis]))]


def reshape(step: Step) -> Sequence[Result]:
    """The same elements in another shape, if those that count stay together.

    The counted axis, with what stands before and after it, becomes one of the new axes, with what
    stands before and after that.
    """
    before = step.static(0)
    if step.node.op_type == "Flatten":
        axis = step.integer("axis", 1)
        axis = axis + len(before) if axis < 0 else axis
        asked: Numbers = np.array([math.prod(before[:axis]) if axis else 1, -1], object)
    else:
        asked = _with_kept(step.numbers(1).reshape(-1), before, step.integer("allowzero", 0))
    counted = step.bounded(0).axes
    if len(counted) != 1:
        raise CannotBoundError("it reshapes a tensor of several sizes that are counted")
    ((axis, size),) = counted.items()
    if are_known(asked) and -1 not in asked:
        raise CannotBoundError("it gives a counted size a number")
    shape = _static_shape(asked, math.prod(before))
    to, inner = _landing(before, axis, shape), math.prod(before[axis + 1 :])
    if not isinstance(asked[to], Number) and asked[to] not in (-1, size.most):
        raise CannotBoundError("it gives a counted size a number")
    after = math.prod(shape[to + 1 :])
    is_clean = step.bounded(0).is_clean
    value = step.op("Reshape", step.input(0), step.constant(shape))
    return [Result(Bounded({to: _scaled(step, size, inner, after)}, is_clean), value)]


def _with_kept(asked: Numbers, before: Sequence[int], allow_zero: int) -> Numbers:
    """Zeros stand for the size that an axis has."""
    found = asked.copy()
    for axis, number in enumerate(asked):
        if not isinstance(number, Number) and number == 0 and not allow_zero:
            found[axis] = before[axis]
    return found


def _static_shape(asked: Numbers, elements: int) -> list[int]:
    shape = [most(number) for number in asked]
    if -1 in shape:
        others = -math.prod(shape)
        if others <= 0 or elements % others:
            raise CannotBoundError("the largest size does not divide as the true one does")
        shape[shape.index(-1)] = elements // others
    if math.prod(shape) != elements:
        raise CannotBoundError("the largest size does not divide as the true one does")
    return shape


def _landing(before: Sequence[int], axis: int, after: Sequence[int]) -> int:
    """Where an axis goes: as many elements stand before it as did."""
    leading = math.prod(before[:axis])
    for place in range(len(after)):
        is_one = after[place] == 1 and before[axis] != 1
        if math.prod(after[:place]) == leading and not is_one:
            return place
    raise CannotBoundError("it mixes what counts with what does not")


def _scaled(step: Step, size: Size, inner: int, after: int) -> Size:
    """`count` groups of `inner` elements, as groups of `after` elements."""
    if inner == after:
        return size
    if inner % after == 0:
        times = inner // after
        count = step.op("Mul", size.count, step.constant([times]))
        return step.derived(size, size.most * times, f"*{times}", count)
    if after % inner or size.most % (after // inner):
        raise CannotBoundError("the largest size does not divide as the true one does")
    parts = after // inner
    count = step.op("Div", size.count, step.constant([parts]))
    return step.derived(size, size.most // parts, f"/{parts}", count)


def gather(step: Step) -> Sequence[Result]:
    """Rows at computed places; negative ones count from the last row that counts."""
    shape, axis = step.static(0), step.axis(0, len(step.static(0)))
    data, index = step.bounded(0), step.bounded(1)
    places, rank = _safe_places(step, shape[axis], data.axes.get(axis)), len(step.static(1))
    kept = data.moved(lambda a: None if a == axis else a if a < axis else a + rank - 1)
    axes = {**kept.axes, **{axis + a: size for a, size in index.axes.items()}}
    is_clean = data.is_clean and axis not in data.axes and not index.axes
    value = step.op("Gather", step.input(0), places, axis=axis)
    return [Result(Bounded(axes, is_clean), value)]


def _safe_places(step: Step, rows: int, size: Size | None) -> onnx_ir.Value:
    """The places, of which those that do not count are valid, too."""
    places = step.input(1)
    known = step.known(1)
    is_forward = known is not None and min(known.reshape(-1).tolist(), default=0) >= 0
    if size is not None and not is_forward:
        places = step.cast(places, onnx_ir.DataType.INT64)
        zero, limit = step.constant(np.array(0)), step.constant(np.array(rows - 1))
        last = step.op("Add", places, size.count)
        places = step.op("Where", step.op("Less", places, zero), last, places)
        places = step.op("Max", step.op("Min", places, limit), zero)
    index = step.bounded(1)
    return places if index.is_clean else step.masked(places, dict(index.axes), 0)


def gather_nd(step: Step) -> Sequence[Result]:
    """Elements or slices at computed places, each a row of numbers."""
    if step.integer("batch_dims", 0):
        raise CannotBoundError("it gathers by batch")
    data, index = step.bounded(0), step.bounded(1)
    shape = step.static(1)
    depth, rank = shape[-1], len(shape)
    if rank - 1 in index.axes or any(axis < depth for axis in data.axes):
        raise CannotBoundError("what it gathers from has a counted size")
    places = step.input(1)
    places = places if index.is_clean else step.masked(places, dict(index.axes), 0)
    kept = data.moved(lambda axis: axis - depth + rank - 1)
    value = step.op("GatherND", step.input(0), places)
    return [Result(Bounded({**index.axes, **kept.axes}), value)]


def tile(step: Step) -> Sequence[Result]:
    """Copies along axes that are not counted."""
    repeats = step.known(1)
    own = step.bounded(0)
    if repeats is None or any(int(repeats[axis]) != 1 for axis in own.axes):
        raise CannotBoundError("it repeats a counted size")
    return [Result(own)]


MOVES = {
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": reshape,
    "Gather": gather,
    "GatherND": gather_nd,
    "Tile": tile,
}
