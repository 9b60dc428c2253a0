"""Attributes and constant operands that count channels: what they become when channels go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.prune.coupling import pads_of, slices_of

Indices = NDArray[np.int64]
Kept = Mapping[tuple[str, int], Indices]

Repair = Callable[[ir.Model, ir.Node, Kept], None]
"""Makes a node right for the sizes to come; its values still have their old shapes."""


def _groups(model: ir.Model, node: ir.Node, kept: Kept) -> None:
    """Groups go whole, with all the channels they read."""
    groups = node.attributes.get_int("group", 1)
    if groups > 1:
        before = ir.static_shape(node.inputs[0])[1]
        left = groups * len(_kept(node.inputs[0], 1, kept)) // before
        node.attributes["group"] = ir.Attr("group", ir.AttributeType.INT, left)


def _target_shape(model: ir.Model, node: ir.Node, kept: Kept) -> None:
    """The shape a Reshape or an Expand is told."""
    out = node.outputs[0]
    shape = [len(_kept(out, axis, kept)) for axis in range(len(ir.static_shape(out)))]
    _set_operand(model, node, 1, shape)


def _piece_sizes(model: ir.Model, node: ir.Node, kept: Kept) -> None:
    rank = len(ir.static_shape(node.inputs[0]))
    axis = node.attributes.get_int("axis", 0) % rank
    node.attributes.pop("num_outputs", None)
    _set_operand(model, node, 1, [len(_kept(piece, axis, kept)) for piece in node.outputs])


def _ranges(model: ir.Model, node: ir.Node, kept: Kept) -> None:
    """A range without steps still is one when channels inside and outside of it go."""
    taken = slices_of(node)
    assert taken is not None
    starts, ends, axes, steps = [], [], [], []
    for axis, piece in taken.items():
        left = _kept(node.inputs[0], axis, kept)
        start, end, step = piece.start, piece.stop, piece.step
        if step == 1:
            start, end = (int(np.searchsorted(left, place)) for place in (start, end))
        starts.append(start)
        ends.append(end if end is not None else np.iinfo(np.int64).min)
        axes.append(axis)
        steps.append(step)
    for index, numbers in enumerate((starts, ends, axes, steps), 1):
        _set_operand(model, node, index, numbers)


def _margins(model: ir.Model, node: ir.Node, kept: Kept) -> None:
    pads = pads_of(node)
    assert pads is not None
    new = []
    for axis, (before, after) in enumerate(pads):
        size = ir.static_shape(node.inputs[0])[axis]
        left = _kept(node.outputs[0], axis, kept)
        inside = len(_kept(node.inputs[0], axis, kept))
        first = int(np.searchsorted(left, before)) if before or after else 0
        new.append((first, len(left) - first - inside))
        assert size + before + after == ir.static_shape(node.outputs[0])[axis]
    _set_operand(model, node, 1, [*(b for b, _ in new), *(a for _, a in new)])
    if len(node.inputs) > 3:
        node.resize_inputs(3)


def _kept(value: ir.Value | None, axis: int, kept: Kept) -> Indices:
    """The indices of an axis that stay."""
    size = ir.static_shape(value)[axis]
    name = str(value.name) if value is not None else ""
    return kept.get((name, axis), np.arange(size))


def _set_operand(model: ir.Model, node: ir.Node, index: int, numbers: list[int]) -> None:
    """Give the node a constant of its own: others may read the old one."""
    constant = ir.add_constant(
        model.graph, f"{node.name}_{index}", np.asarray(numbers, dtype=np.int64)
    )
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, constant)


REPAIRS: Mapping[str, Repair] = {
    "Conv": _groups,
    "ConvTranspose": _groups,
    "Expand": _target_shape,
    "Pad": _margins,
    "Reshape": _target_shape,
    "Slice": _ranges,
    "Split": _piece_sizes,
}
"""The operators that count channels, and what to do about it."""
