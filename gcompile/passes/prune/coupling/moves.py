"""Operators that only move elements: an index of the output is an index of an input."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.passes.prune.coupling.indices import Indices


def transpose(indices: Indices, node: ir.Node) -> str | None:
    """Axes change places."""
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    order = node.attributes.get_ints("perm", tuple(reversed(range(len(x)))))
    for axis, mine in zip(order, out, strict=True):
        indices.tie(x[axis], mine)
    return None


def concat(indices: Indices, node: ir.Node) -> str | None:
    """Operands follow each other along one axis and agree along the others."""
    out = indices.of(node.outputs[0])
    axis = node.attributes.get_int("axis", 0) % len(out)
    start = 0
    for value in node.inputs:
        own = indices.of(value)
        end = start + len(own[axis])
        for index, ids in enumerate(own):
            indices.tie(ids, out[index][start:end] if index == axis else out[index])
        start = end
    return None


def split(indices: Indices, node: ir.Node) -> str | None:
    """Pieces of one axis."""
    if len(node.inputs) > 1 and node.inputs[1] is not None and not ir.is_constant(node.inputs[1]):
        return "the sizes of its pieces are computed"
    x = indices.of(node.inputs[0])
    axis = node.attributes.get_int("axis", 0) % len(x)
    start = 0
    for piece in node.outputs:
        own = indices.of(piece)
        if not own:
            return "a piece has no known shape"
        end = start + len(own[axis])
        for index, ids in enumerate(own):
            indices.tie(ids, x[index][start:end] if index == axis else x[index])
        start = end
    return None


def slice_(indices: Indices, node: ir.Node) -> str | None:
    """A range of some axes; where it has steps, the axis must keep its size."""
    ranges = slices_of(node)
    if ranges is None:
        return "its bounds are computed"
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    for axis, (theirs, mine) in enumerate(zip(x, out, strict=True)):
        taken = ranges.get(axis, slice(None))
        if taken.step not in (None, 1):
            indices.lock(theirs, "a Slice takes every so many of it")
        indices.tie(theirs[taken], mine)
    return None


def slices_of(node: ir.Node) -> dict[int, slice] | None:
    """The ranges a Slice takes, by axis; None where they are not constants."""
    operands = [ir.constant_array(value) for value in node.inputs[1:]]
    if any(a is None and v is not None for a, v in zip(operands, node.inputs[1:], strict=True)):
        return None
    shape = ir.static_shape(node.inputs[0])
    starts, ends = (np.asarray(a).reshape(-1).tolist() for a in operands[:2])
    listed = operands[2] if len(operands) > 2 else None
    stepped = operands[3] if len(operands) > 3 else None
    axes = listed.reshape(-1).tolist() if listed is not None else list(range(len(starts)))
    steps = stepped.reshape(-1).tolist() if stepped is not None else [1] * len(starts)
    return {
        axis % len(shape): _bounded(start, end, step, shape[axis % len(shape)])
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def _bounded(start: int, end: int, step: int, size: int) -> slice:
    """The bounds as Python means them: ONNX counts a negative end from the back only once."""
    first, last = (place + size if place < 0 else place for place in (start, end))
    if step > 0:
        first, last = min(max(first, 0), size), min(max(last, 0), size)
        return slice(first, max(last, first), step)
    first, last = min(max(first, 0), size - 1), min(max(last, -1), size - 1)
    return slice(first, last if last >= 0 else None, step)


def gather(indices: Indices, node: ir.Node) -> str | None:
    """Rows picked by number: the axis they are picked from must keep its order and size."""
    x, picked = indices.of(node.inputs[0]), indices.of(node.inputs[1])
    out = indices.of(node.outputs[0])
    axis = node.attributes.get_int("axis", 0) % len(x)
    indices.lock(x[axis], "a Gather picks from it by number")
    inner = axis + len(picked)
    for theirs, mine in (
        *zip(x[:axis], out[:axis], strict=True),
        *zip(picked, out[axis:inner], strict=True),
        *zip(x[axis + 1 :], out[inner:], strict=True),
    ):
        indices.tie(theirs, mine)
    return None


def pad(indices: Indices, node: ir.Node) -> str | None:
    """Constant margins around the input; the margins themselves are free to go."""
    pads = pads_of(node)
    if pads is None:
        return "its margins are computed"
    constant = node.attributes.get_string("mode", "constant") == "constant"
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    for (before, after), theirs, mine in zip(pads, x, out, strict=True):
        if min(before, after) < 0:
            return "it crops"
        if not constant and (before or after):
            indices.lock(theirs, "a Pad repeats its elements")
            indices.lock(mine, "a Pad repeats its elements")
        indices.tie(theirs, mine[before : before + len(theirs)])
    return None


def pads_of(node: ir.Node) -> list[tuple[int, int]] | None:
    """What a Pad adds before and after each axis; None where that is not constant."""
    listed = ir.constant_array(node.inputs[1])
    named = node.inputs[3] if len(node.inputs) > 3 else None
    axes = ir.constant_array(named)
    if listed is None or (named is not None and axes is None):
        return None
    rank = len(ir.static_shape(node.inputs[0]))
    order = [int(a) % rank for a in axes.reshape(-1)] if axes is not None else list(range(rank))
    amounts = listed.reshape(2, -1)
    found = [(0, 0)] * rank
    for axis, before, after in zip(order, *amounts.tolist(), strict=True):
        found[axis] = (int(before), int(after))
    return found


def expand(indices: Indices, node: ir.Node) -> str | None:
    """Axes of one element are repeated, and keep the size they are given."""
    if not ir.is_constant(node.inputs[1]):
        return "the shape it expands to is computed"
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    lead = len(out) - len(x)
    for axis, mine in enumerate(out):
        theirs = x[axis - lead] if axis >= lead else None
        if theirs is not None and len(theirs) == len(mine):
            indices.tie(theirs, mine)
        else:
            indices.lock(mine, "an Expand repeats one element along it")
    return None


def resize(indices: Indices, node: ir.Node) -> str | None:
    """Pixels are interpolated, axes that keep their size are not."""
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return "it is told sizes rather than scales"
    scales = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    x, out = indices.of(node.inputs[0]), indices.of(node.outputs[0])
    if scales is None or scales.size != len(x):
        return "its scales are computed, or not given for every axis"
    for scale, theirs, mine in zip(scales.reshape(-1).tolist(), x, out, strict=True):
        if scale == 1 and len(theirs) == len(mine):
            indices.tie(theirs, mine)
        else:
            indices.lock(theirs, "a Resize interpolates along it")
            indices.lock(mine, "a Resize interpolates along it")
    return None
