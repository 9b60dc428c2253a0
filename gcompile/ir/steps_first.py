"""Recurrent nets whose sequences come first become nets whose steps come first.

ONNX allows both (`layout`), but runtimes know only one of them: transposes make up for the other.
"""

from __future__ import annotations

import onnx_ir

from gcompile.ir.recurrence import GATES
from gcompile.ir.walk import all_graphs

_STATES = (1, 0, 2)
"""(batch, directions or steps, elements), and back."""

_INPUTS = {0: _STATES, 5: _STATES, 6: _STATES}
_OUTPUTS = ((2, 0, 1, 3), _STATES, _STATES)


def put_steps_first(model: onnx_ir.Model) -> None:
    """Change every RNN, GRU and LSTM with `layout` 1, in place."""
    for graph in all_graphs(model):
        for node in list(graph):
            is_net = node.op_type in GATES and not node.domain
            if is_net and node.attributes.get_int("layout", 0) == 1:
                _put_steps_first(graph, node)


def _put_steps_first(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    del node.attributes["layout"]
    for index, order in _INPUTS.items():
        if index < len(node.inputs) and (value := node.inputs[index]) is not None:
            moved = _transpose(node, value, order)
            graph.insert_before(node, moved)
            node.replace_input_with(index, moved.outputs[0])
    for value, back in zip(node.outputs, _OUTPUTS, strict=False):
        if value.name:
            name, value.name = value.name, f"{value.name}::steps_first"
            value.shape = None
            moved = _transpose(node, value, back)
            moved.outputs[0].name = name
            value.replace_all_uses_with(moved.outputs[0], replace_graph_outputs=True)
            moved.replace_input_with(0, value)
            graph.insert_after(node, moved)


def _transpose(node: onnx_ir.Node, value: onnx_ir.Value, order: tuple[int, ...]) -> onnx_ir.Node:
    made = onnx_ir.Node(
        "",
        "Transpose",
        [value],
        [onnx_ir.AttrInt64s("perm", list(order))],
        name=f"{node.name}::{value.name}",
        metadata_props=dict(node.metadata_props),
    )
    made.outputs[0].name = f"{value.name}::transposed"
    made.outputs[0].type = value.type
    return made
