"""Give values whose size is counted a buffer of the largest size, and the model the counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import onnx_ir

from gcompile.ir.bounded.arithmetic import ARITHMETIC
from gcompile.ir.bounded.cuts import CUTS, cut
from gcompile.ir.bounded.moves import MOVES
from gcompile.ir.bounded.operators import BOUNDED
from gcompile.ir.bounded.rows import ROWS
from gcompile.ir.bounded.sources import BY_NUMBERS, SOURCES, shape_of
from gcompile.ir.bounded.step import CannotBoundError, Result, Rule, Step, Tracked, infer_node
from gcompile.ir.extract import read_by
from gcompile.ir.notes import add_note
from gcompile.ir.unknown_shapes import NOT_COUNTED
from gcompile.ir.written_out.writer import known_shape

COUNTS = "gcompile.counts"
"""Where a model keeps which outputs are buffers, and which others count what is in them."""

_WHOLE = (onnx_ir.DataType.INT64, onnx_ir.DataType.INT32)
_ON_BUFFERS: Mapping[str, Rule] = {
    **SOURCES,
    **BY_NUMBERS,
    **CUTS,
    **MOVES,
    **ROWS,
    "Shape": shape_of,
}
_BY_NUMBERS: Mapping[str, Rule] = {**BY_NUMBERS, "Slice": cut}
"""Operators whose result has a size that was counted before."""

_BY_COMPUTED: Mapping[str, Rule] = {"Slice": cut, "TopK": BY_NUMBERS["TopK"]}
"""Operators whose result is at most as large as what they read, whatever the number is."""


def bind_counted_sizes(model: onnx_ir.Model, opset: int) -> bool:
    """Let every node that counts what it finds, and all that follows, run on buffers, in place.

    Returns:
        Whether there are such nodes.

    Nodes that cannot run on buffers keep the reason, for `refused_nodes`.
    """
    tracked = Tracked()
    for node in list(model.graph):
        if node.domain or not (rule := _rule(node, tracked)):
            continue
        step = Step(node, opset, tracked)
        try:
            _replace(step, rule(step))
        except CannotBoundError as error:
            if any(known_shape(value) is None for value in node.outputs if value.name) or any(
                tracked.of(value).axes for value in read_by(node)
            ):
                node.metadata_props[NOT_COUNTED] = str(error)
    if not tracked.bounded and not tracked.numbers:
        return False
    model.opset_imports[BOUNDED] = 1
    _return_counts(model, tracked)
    return True


def _rule(node: onnx_ir.Node, tracked: Tracked) -> Rule | None:
    """What to do with a node, if it has to do with counted sizes at all."""
    inputs = [value for value in node.inputs if value is not None]
    if any(known_shape(value) is None for value in inputs):
        return None  # It follows a node that was refused.
    if any(tracked.of(value).axes for value in read_by(node)[len(inputs) :]):
        return _refused  # A branch or a loop reads it from inside.
    is_known = all(known_shape(value) is not None for value in node.outputs if value.name)
    if any(tracked.of(value).axes for value in inputs):
        return _ON_BUFFERS.get(node.op_type, _refused)
    if is_known:
        return _sums(node, tracked)
    if any(value in tracked.numbers for value in inputs):
        return _BY_NUMBERS.get(node.op_type, _refused)
    follows = _inferred if tracked.bounded else None
    return {**SOURCES, **_BY_COMPUTED}.get(node.op_type, follows)


def _sums(node: onnx_ir.Node, tracked: Tracked) -> Rule | None:
    """Arithmetic on whole numbers that may be sizes."""
    first, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if result.dtype not in _WHOLE or node.op_type not in ARITHMETIC:
        return None
    values = [first] if node.op_type in ("Gather", "Slice") else node.inputs
    if not any(value in tracked.numbers for value in values if value is not None):
        return None
    return ARITHMETIC[node.op_type]


def _inferred(step: Step) -> Sequence[Result]:
    """A node whose inputs have got their shapes by now."""
    return [Result() for _ in step.node.outputs]


def _refused(step: Step) -> Sequence[Result]:
    raise CannotBoundError("it reads a size that is counted while the model runs")


def _replace(step: Step, results: Sequence[Result]) -> None:
    """Put what was written in the place of the node, or let the node run on buffers itself."""
    node, tracked, graph = step.node, step.tracked, step.node.graph
    assert graph is not None
    names = [value.name if value.is_graph_output() else None for value in node.outputs]
    values = [result.value or value for result, value in zip(results, node.outputs, strict=False)]
    if any(result.value is not None for result in results):
        step.replace([result.value for result in results])
    else:
        infer_node(node, step.opset)
    returned = {value.name: value for value in graph.outputs}
    for name, value, result in zip(names, values, results, strict=False):
        for found in (value, returned.get(name)):
            if found is not None and result.bounded.axes:
                tracked.bounded[found] = result.bounded
            if found is not None and result.numbers is not None:
                tracked.numbers[found] = result.numbers


def _return_counts(model: onnx_ir.Model, tracked: Tracked) -> None:
    """Give the model the counts of its outputs as outputs, and write down which is which."""
    counts: dict[str, list[tuple[int, str]]] = {}
    names: dict[onnx_ir.Value, str] = {}
    for value in list(model.graph.outputs):
        for axis, size in tracked.of(value).axes.items():
            if size.count not in names:
                names[size.count] = f"{value.name}::count{axis}"
                model.graph.outputs.append(_copied(model.graph, size.count, names[size.count]))
            counts.setdefault(str(value.name), []).append((axis, names[size.count]))
    if counts:
        model.metadata_props[COUNTS] = json.dumps(counts)
        add_note(
            model,
            f"How many elements {', '.join(counts)} has is counted while the model runs: energy "
            "and memory are those of the most it can have.",
        )


def _copied(graph: onnx_ir.Graph, value: onnx_ir.Value, name: str) -> onnx_ir.Value:
    node = onnx_ir.Node("", "Identity", [value], name=name)
    result = node.outputs[0]
    result.name, result.shape, result.type = name, value.shape, value.type
    graph.append(node)
    return result


def counts_of(model: onnx_ir.Model) -> tuple[tuple[str, int, str], ...]:
    """The outputs that are buffers: the name, an axis, and the output that counts along it."""
    kept: dict[str, list[tuple[int, str]]] = json.loads(model.metadata_props.get(COUNTS, "{}"))
    outputs = {value.name for value in model.graph.outputs}  # Pieces of the model have others.
    return tuple(
        (name, axis, count)
        for name, axes in kept.items()
        for axis, count in axes
        if {name, count} <= outputs
    )
