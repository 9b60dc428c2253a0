"""Tie the indices of a whole model."""

from __future__ import annotations

from collections.abc import Iterator

from gcompile import ir
from gcompile.passes.prune.coupling.indices import Indices
from gcompile.passes.prune.coupling.reshapes import reshape
from gcompile.passes.prune.coupling.rules import RESHAPES, RULES, scaled_width

OUTPUT = "it is an output of the model"
INPUT = "it is an input of the model"

_NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def couple(model: ir.Model, *, normalized_width: bool = False) -> Indices:
    """Tie and lock the indices of every value of the main graph.

    Args:
        model: A ready model.
        normalized_width: Whether widths that layer normalizations run over may shrink, which
            changes the mean and the variance they divide by.
    """
    indices = Indices()
    for value in model.graph.outputs:
        indices.lock_value(value, OUTPUT)
    for value in model.graph.inputs:
        indices.lock_value(value, INPUT)
    later = []
    for node in model.graph:
        if not node.domain and node.op_type in RESHAPES and _is_told(node):
            later.append(node)
        elif reason := _apply(indices, node, normalized_width):
            for value in _touched(node):
                indices.lock_value(value, f"a {node.op_type} touches it: {reason}")
    for node in later:  # When all other locks are known.
        reshape(indices, node)
    return indices


def _apply(indices: Indices, node: ir.Node, normalized_width: bool) -> str | None:
    rule = None if node.domain else RULES.get(node.op_type)
    if rule is None:
        return "there is no rule for it"
    if normalized_width and node.op_type in _NORMALIZATIONS:
        return scaled_width(indices, node)
    if any(not indices.of(value) for value in _touched(node) if _has_axes(value)):
        return "a shape is not known"
    return rule(indices, node)


def _is_told(node: ir.Node) -> bool:
    """Whether the new shape, or the axes that come or go, are constants."""
    return all(ir.is_constant(value) for value in node.inputs[1:] if value is not None)


def _has_axes(value: ir.Value) -> bool:
    """Whether the value has a shape other than a scalar's, or none that is known."""
    return bool(value.name) and (value.shape is None or len(value.shape) > 0)


def _touched(node: ir.Node) -> Iterator[ir.Value]:
    """What the node reads and writes, branches included."""
    yield from (value for value in (*node.inputs, *node.outputs) if value is not None)
    for attr in node.attributes.values():
        if attr.type in _GRAPHS:
            graphs = [attr.as_graph()] if attr.type is ir.AttributeType.GRAPH else attr.as_graphs()
            for inner in (n for graph in graphs for n in graph.all_nodes()):
                yield from (value for value in inner.inputs if value is not None)
            yield from (value for graph in graphs for value in graph.outputs)
