"""Rows of a tensor that are replaced at run time, such as those of new tokens in a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.shapes import static_shape

IS_ROUND = "gcompile.round"
"""Marks the body of a loop: what it is given at first belongs to others."""


@dataclass(frozen=True, slots=True)
class RowWrite:
    """`output = data`, but `output[line, numbers[i]] = updates[line, i]` for every line and i.

    Attributes:
        numbers: Which rows, the same for all lines; negative ones count from the end.
        lines: Elements of the axes before that of the rows.
        rows: Rows of a line.
        count: Rows of a line that are replaced.
        inner: Elements of a row.
    """

    data: onnx_ir.Value
    numbers: onnx_ir.Value
    updates: onnx_ir.Value
    output: onnx_ir.Value
    lines: int
    rows: int
    count: int
    inner: int

    @property
    def is_in_place(self) -> bool:
        """Whether the rows can be replaced where they lie: nobody else reads an input's data."""
        node, graph = self.output.producer(), self.data.graph
        return (
            self.data.is_graph_input()
            and graph is not None
            and IS_ROUND not in graph.metadata_props
            and not self.data.is_graph_output()
            and len(self.data.uses()) == 1
            and node is not None
            and node.graph is graph
        )


def row_write_of(node: onnx_ir.Node) -> RowWrite | None:
    """What a ScatterElements or ScatterND replaces, if it is rows."""
    if node.domain or node.op_type not in ("ScatterElements", "ScatterND"):
        return None
    if node.attributes.get_string("reduction", "none") != "none":
        return None
    data, indices, updates = node.inputs
    if data is None or indices is None or updates is None:
        return None
    shape = static_shape(data)
    if node.op_type == "ScatterND":
        index_shape = static_shape(indices)
        if index_shape[-1:] != (1,):
            return None
        axis, numbers, count = 0, indices, math.prod(index_shape)
    else:
        axis = node.attributes.get_int("axis", 0) % len(shape)
        found = _numbers(indices, axis)
        new = static_shape(updates)
        if found is None or any(new[i] != shape[i] for i in range(len(shape)) if i != axis):
            return None
        numbers, count = found, new[axis]
    lines, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return RowWrite(data, numbers, updates, node.outputs[0], lines, shape[axis], count, inner)


def _numbers(indices: onnx_ir.Value, axis: int) -> onnx_ir.Value | None:
    """What indices that differ along one axis only were expanded from."""
    rank = len(static_shape(indices))
    producer = indices.producer()
    source: onnx_ir.Value | None = indices
    if producer is not None and producer.op_type == "Expand" and not producer.domain:
        source = producer.inputs[0]
    sizes = static_shape(source)
    sizes = (1,) * (rank - len(sizes)) + sizes
    others = (size for place, size in enumerate(sizes) if place != axis)
    same = sizes[axis] == static_shape(indices)[axis]
    return source if same and all(size == 1 for size in others) else None
