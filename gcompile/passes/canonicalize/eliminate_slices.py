"""Eliminate slices of slices: cuts along different axes are one cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import NodePass, Numerics, PassContext, Skip

Cuts = dict[int, tuple[int, int, int]]
"""(start, end, step) by axis."""


@dataclass(frozen=True)
class EliminateSlices(NodePass):
    """Merge a Slice into the Slice before it when they cut different axes."""

    name = "eliminate-slices"
    numerics = Numerics.EXACT
    ops = frozenset({"Slice"})

    def matches(self, node: ir.Node) -> bool:
        """The input is a slice nobody else reads."""
        return _slice_before(node) is not None

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Cut all axes at once."""
        before, graph = _slice_before(node), node.graph
        if before is None or not isinstance(graph, ir.Graph):
            return Skip("its input is not a Slice")
        first, second = _cuts(before), _cuts(node)
        if first is None or second is None:
            return Skip("where it cuts is not constant")
        if first.keys() & second.keys():
            return Skip("both cut the same axis")
        _set_cuts(node, graph, dict(sorted((first | second).items())))
        node.replace_input_with(0, before.inputs[0])
        ir.add_origin(node, [before], self.name)
        graph.remove(before, safe=True)
        return None


def _slice_before(node: ir.Node) -> ir.Node | None:
    x = node.inputs[0]
    before = x.producer() if x is not None else None
    if before is None or before.domain or before.op_type != "Slice":
        return None
    return before if ir.only_reader(x) is node else None


def _cuts(node: ir.Node) -> Cuts | None:
    rank = len(ir.static_shape(node.inputs[0]))
    starts, ends, axes, steps = (_integers(v) for v in [*node.inputs[1:], None, None][:4])
    if starts is None or ends is None or axes is None or steps is None or not starts:
        return None
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    cuts = zip(starts, ends, steps, strict=True)
    return {axis % rank: cut for axis, cut in zip(axes, cuts, strict=True)}


def _integers(value: ir.Value | None) -> list[int] | None:
    """Read a constant vector: empty where the input is left out, None where it is computed."""
    if value is None:
        return []
    array = ir.constant_array(value)
    return None if array is None else [int(number) for number in array]


def _set_cuts(node: ir.Node, graph: ir.Graph, cuts: Cuts) -> None:
    starts, ends, steps = zip(*cuts.values(), strict=True)
    node.resize_inputs(5)
    vectors = {"starts": starts, "ends": ends, "axes": tuple(cuts), "steps": steps}
    for slot, (name, numbers) in enumerate(vectors.items(), start=1):
        array = np.array(numbers, dtype=np.int64)
        node.replace_input_with(slot, ir.add_constant(graph, f"{node.name}::{name}", array))
