"""Loop and Scan of a known number of rounds: their bodies, once for each round.

The rounds of a Scan are as many as its inputs are long. Those of a Loop are known where its trip
count is, and where whether to go on follows from constants in each round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from gcompile.ir.constants import add_constant
from gcompile.ir.static.inline import Round, copied, hand_over, insert, release, remove
from gcompile.ir.static.known import known_array

_MOST_NODES = 20_000
"""Nodes that a loop may become: compiling takes seconds for each thousand."""

Values = list[onnx_ir.Value]


def unroll(node: onnx_ir.Node, opset: int) -> str | None:
    """Replace a Loop or Scan by its rounds; return why not where they are not known."""
    results = _unrolled_loop(node, opset) if node.op_type == "Loop" else _unrolled_scan(node)
    if isinstance(results, str):
        return results
    for value, result in zip(node.outputs, results, strict=True):
        if result is not None:
            hand_over(node, value, result)
    remove(node)
    return None


def _unrolled_loop(node: onnx_ir.Node, opset: int) -> Sequence[onnx_ir.Value | None] | str:
    body, graph = node.attributes["body"].as_graph(), node.graph
    assert isinstance(graph, onnx_ir.Graph)
    limit, going = (known_array(value, opset) for value in node.inputs[:2])
    if node.inputs[0] is not None and limit is None:
        return "the number of its rounds is computed"
    if node.inputs[1] is not None and going is None:
        return "whether it begins is computed"
    most = _MOST_NODES // max(len(body), 1)
    count = most + 1 if limit is None else int(limit.reshape(()))
    goes_on = going is None or bool(going.reshape(()))
    states = list(node.inputs[2:])
    rounds: list[Round] = []
    kept = body.inputs[1]
    while goes_on and len(rounds) < count:
        if len(rounds) >= most:
            return f"its rounds would be more than {_MOST_NODES} nodes"
        index = add_constant(graph, f"{node.name}::round", np.array(len(rounds), np.int64))
        truth = add_constant(graph, f"{node.name}::goes_on", np.array(True))
        made = copied(body, [index, truth, *states], f"{node.name}/{len(rounds)}/")
        rounds.append(made)
        states = list(made.results[1 : 1 + len(states)])
        if body.outputs[0] is not kept:
            again = known_array(made.results[0], opset)
            if again is None:
                for dropped in rounds:
                    release(dropped.graph)
                return "whether it goes on is computed"
            goes_on = bool(again.reshape(()))
    for made in rounds:
        insert(made, node)
    scanned = _columns([made.results[1 + len(states) :] for made in rounds])
    if not rounds and len(node.outputs) > len(states):
        return "it has no round, and so nothing to put together"
    return [*states, *(_stacked(node, values, 0) for values in scanned)]


def _unrolled_scan(node: onnx_ir.Node) -> Sequence[onnx_ir.Value | None] | str:
    body = node.attributes["body"].as_graph()
    count = node.attributes.get_int("num_scan_inputs", 1)
    states = list(node.inputs[: len(node.inputs) - count])
    if None in states:
        return "it is the Scan of opset 8"
    parts = _parts(node, count)
    if isinstance(parts, str):
        return parts
    if len(parts) * len(body) > _MOST_NODES:
        return f"its rounds would be more than {_MOST_NODES} nodes"
    outputs = []
    for index, slices in enumerate(parts):
        made = copied(body, [*states, *slices], f"{node.name}/{index}/")
        insert(made, node)
        states = list(made.results[: len(states)])
        outputs.append(made.results[len(states) :])
    columns = _columns(outputs)
    axes = node.attributes.get_ints("scan_output_axes", [0] * len(columns))
    backward = node.attributes.get_ints("scan_output_directions", [0] * len(columns))
    return [
        *states,
        *(
            _stacked(node, values[::-1] if back else values, axis)
            for values, axis, back in zip(columns, axes, backward, strict=True)
        ),
    ]


def _parts(node: onnx_ir.Node, count: int) -> list[Values] | str:
    """What each round reads of the scanned inputs."""
    scanned = [value for value in node.inputs[len(node.inputs) - count :] if value is not None]
    axes = node.attributes.get_ints("scan_input_axes", [0] * count)
    backward = node.attributes.get_ints("scan_input_directions", [0] * count)
    lengths = set()
    for value, axis in zip(scanned, axes, strict=True):
        if value.shape is None or not isinstance(size := value.shape[axis], int):
            return "the number of its rounds is not known"
        lengths.add(size)
    if len(lengths) != 1 or lengths == {0}:
        return "what it scans has other lengths, or none"
    (length,) = lengths
    columns = []
    for value, axis, back in zip(scanned, axes, backward, strict=True):
        values = split(node, value, axis, length)
        columns.append(values[::-1] if back else values)
    return _columns(columns)


def split(node: onnx_ir.Node, value: onnx_ir.Value, axis: int, length: int) -> Values:
    """The slices of a value along an axis, without that axis, computed before the node."""
    tape = Tape()
    pieces: Sequence[onnx_ir.Value] = [value]
    if length > 1:
        pieces = tape.op_multi_out(
            "Split", [value], {"axis": axis, "num_outputs": length}, num_outputs=length
        )
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    where = add_constant(graph, f"{node.name}::axis", np.array([axis]))
    slices = [tape.op("Squeeze", [piece, where]) for piece in pieces]
    write(tape, node, f"{node.name}::{value.name}")
    return slices


def write(tape: Tape, before: onnx_ir.Node, name: str) -> None:
    """Name what was taped and insert it before a node, as coming from that node."""
    for index, made in enumerate(tape.nodes):
        made.name = f"{name}::{index}"
        made.metadata_props.update(before.metadata_props)
        for number, result in enumerate(made.outputs):
            result.name = f"{name}::{index}::{number}"
    assert before.graph is not None
    before.graph.insert_before(before, tape.nodes)


def _stacked(node: onnx_ir.Node, values: Values, axis: int) -> onnx_ir.Value:
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph)
    tape = Tape()
    where = add_constant(graph, f"{node.name}::axis", np.array([axis]))
    rows = [tape.op("Unsqueeze", [value, where]) for value in values]
    result = tape.op("Concat", rows, {"axis": axis}) if len(rows) > 1 else rows[0]
    write(tape, node, f"{node.name}::{values[0].name}::stacked")
    return result


def _columns(rows: list[Values]) -> list[Values]:
    return [list(column) for column in zip(*rows, strict=True)]
