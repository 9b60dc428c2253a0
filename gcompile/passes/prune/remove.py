"""Remove channels for good: slice every tensor they lie in, and say so in every attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.repairs import REPAIRS

Kept = Mapping[tuple[str, int], NDArray[np.int64]]
"""The indices that stay along an axis of a value, by (value name, axis); others lose none."""


def remove(model: ir.Model, choices: Iterable[tuple[Group, Sequence[int]]]) -> Kept:
    """Remove channels of several groups at once, all found in the model as it is now.

    Args:
        model: The model the groups were found in, or a copy of it; changed in place.
        choices: Groups, each with the numbers of the channels it keeps.

    Raises:
        UsageError: A group may not be pruned, was found in another model or before another
            removal, or keeps no channel or one that does not exist.
    """
    kept = kept_indices(model, choices)
    for value in resize(model, kept):
        _slice(value, kept)
    ir.remove_unused(model)
    ir.infer_shapes(model)
    return kept


def resize(model: ir.Model, kept: Kept) -> list[ir.Value]:
    """Give every value its shape to come, and every node the attributes; return the values.

    Constants keep their data, which then has another shape: enough for pricing, not for running.
    """
    touched = [v for v in values_by_name(model).values() if _is_touched(v, kept)]
    shapes = {value: _shape_of(value, kept) for value in touched}
    for node in model.graph:
        repair = REPAIRS.get(node.op_type) if not node.domain else None
        if repair is not None and any(v in shapes for v in (*node.inputs, *node.outputs) if v):
            repair(model, node, kept)
    for value, shape in shapes.items():
        value.shape = ir.Shape(shape)
    return touched


def kept_indices(model: ir.Model, choices: Iterable[tuple[Group, Sequence[int]]]) -> Kept:
    """The indices that stay along every axis that loses some.

    Raises:
        UsageError: See `remove`.
    """
    values = values_by_name(model)
    masks: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for group, keep in choices:
        gone = np.setdiff1d(np.arange(group.size), _checked(group, keep))
        for member in group.members:
            value = values.get(member.value)
            if value is None or ir.static_shape(value)[member.axis] != member.extent:
                raise UsageError(
                    f"Group {group.name!r} was not found in this model as it is now: find the "
                    "groups again after each removal."
                )
            key = (member.value, member.axis)
            mask = masks.setdefault(key, np.ones(member.extent, np.bool_))
            mask[member.places[gone].reshape(-1)] = False
    return {key: np.flatnonzero(mask) for key, mask in masks.items()}


def values_by_name(model: ir.Model) -> dict[str, ir.Value]:
    """Every value of the main graph."""
    graph = model.graph
    found = {str(v.name): v for v in (*graph.inputs, *graph.initializers.values())}
    found.update({str(v.name): v for node in graph for v in node.outputs if v.name})
    return found


def _checked(group: Group, keep: Sequence[int]) -> NDArray[np.int64]:
    if group.reason is not None:
        raise UsageError(f"No channel of {group.name!r} may be removed: {group.reason}.")
    wanted = np.unique(np.asarray(keep, np.int64))
    if not wanted.size or wanted[0] < 0 or wanted[-1] >= group.size:
        raise UsageError(
            f"Group {group.name!r} has {group.size} channels: keep at least one, by numbers from "
            f"0 to {group.size - 1}."
        )
    return wanted


def _shape_of(value: ir.Value, kept: Kept) -> tuple[int, ...]:
    """The shape of a value once channels are gone."""
    return tuple(
        len(kept[str(value.name), axis]) if (str(value.name), axis) in kept else size
        for axis, size in enumerate(ir.static_shape(value))
    )


def _is_touched(value: ir.Value, kept: Kept) -> bool:
    rank = len(value.shape) if value.shape is not None else 0
    return any((str(value.name), axis) in kept for axis in range(rank))


def _slice(value: ir.Value, kept: Kept) -> None:
    """Cut a constant down to what is kept."""
    array = ir.constant_array(value)
    if array is None:
        return
    for axis in range(array.ndim):
        if (str(value.name), axis) in kept:
            array = np.take(array, kept[str(value.name), axis], axis)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
