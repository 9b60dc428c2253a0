"""Values whose channels may be scaled, if the products that read them take the scales back.

    W · f(x)  =  (W · s) · f(x / s)        f(a · x) = a · f(x) for a > 0, channel by channel

Between a value and its readers may stand what is positively homogeneous in every channel:
rectifiers, pools, reshapes that keep channels together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.passes.base import Skip
from gcompile.passes.channels import Vector
from gcompile.passes.precision.rounding import from_rows, to_rows

_HOMOGENEOUS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
     "GlobalMaxPool", "Identity", "Reshape", "Flatten"}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Link:
    """A value, and everything that reads it.

    Attributes:
        value: What is made in channels.
        axis: The axis of `value` that counts them.
        readers: Products with constant weights: nothing else sees the value.
    """

    value: ir.Value
    axis: int
    readers: tuple[ir.Node, ...]

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return ir.static_shape(self.value)[self.axis]


def links(model: ir.Model) -> Iterator[Link | Skip]:
    """Every value of the main graph that products read through homogeneous operators."""
    seen: set[ir.Value] = set()
    for node in list(model.graph):
        if not reads_channels(node):
            continue
        value, axis = _origin(node)
        if value in seen:
            continue
        seen.add(value)
        found = _readers(value, axis)
        yield found if isinstance(found, Skip) else Link(value, axis, tuple(found))


def reads_channels(node: ir.Node) -> bool:
    """Say whether the node is a product with a constant weight of fp32, a matrix or filters."""
    if node.domain or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return False
    x, weight = node.inputs[:2]
    if not ir.is_constant(weight) or ir.is_constant(x) or weight is None:
        return False
    is_filter = node.op_type == "Conv"
    is_plain = is_filter or len(ir.static_shape(weight)) == 2
    is_turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))
    return is_plain and not is_turned and weight.dtype is ir.DataType.FLOAT


def input_axis(node: ir.Node) -> int:
    """The axis of a product's input that counts what it sums over."""
    return 1 if node.op_type == "Conv" else len(ir.static_shape(node.inputs[0])) - 1


def input_sizes(node: ir.Node) -> Vector:
    """The largest weight of every input of a product."""
    weight = ir.constant_array(node.inputs[1])
    assert weight is not None
    rows = np.abs(to_rows(node, weight).astype(np.float64)).max(axis=1)
    inputs = ir.static_shape(node.inputs[0])[input_axis(node)]
    return np.asarray(rows.reshape(inputs, -1).max(axis=1))


def scale_inputs(node: ir.Node, factors: Vector, name: str) -> None:
    """Multiply the weights of every channel read; inputs beside each other may share a channel."""
    weight, graph = ir.constant_array(node.inputs[1]), node.graph
    assert weight is not None
    assert isinstance(graph, ir.Graph)
    rows = to_rows(node, weight).astype(np.float64)
    per_weight = np.repeat(factors, rows.shape[0] * rows.shape[2] // len(factors))
    scaled = rows * per_weight.reshape(rows.shape[0], 1, rows.shape[2])
    array = from_rows(node, scaled, weight.shape).astype(weight.dtype)
    node.replace_input_with(1, ir.add_constant(graph, name, array))


def _keeps_channels(node: ir.Node) -> bool:
    """Say whether channels on axis 1 stay there, each in one piece."""
    before, after = ir.static_shape(node.inputs[0]), ir.static_shape(node.outputs[0])
    if node.op_type not in ("Reshape", "Flatten"):
        return True
    flat = int(np.prod(before[1:], dtype=np.int64))
    return len(before) > 1 and len(after) == 2 and after == (before[0], flat)


def _origin(node: ir.Node) -> tuple[ir.Value, int]:
    """Where the channels that a product reads are made: the value and its axis."""
    value, axis = node.inputs[0], input_axis(node)
    assert value is not None
    while (producer := value.producer()) is not None and _is_homogeneous(producer, axis):
        value = producer.inputs[0]
        assert value is not None
    return value, axis


def _is_homogeneous(node: ir.Node, axis: int) -> bool:
    if node.domain or node.op_type not in _HOMOGENEOUS:
        return False
    keeps_axis = node.op_type in ("Relu", "LeakyRelu", "Identity")
    return keeps_axis or (axis == 1 and _keeps_channels(node))


def _readers(value: ir.Value, axis: int) -> list[ir.Node] | Skip:
    if value.is_graph_output():
        return Skip("it is an output of the model")
    found: list[ir.Node] = []
    for use in value.uses():
        node = use.node
        if use.idx == 0 and reads_channels(node) and input_axis(node) == axis:
            found.append(node)
        elif use.idx == 0 and _is_homogeneous(node, axis):
            further = _readers(node.outputs[0], axis)
            if isinstance(further, Skip):
                return further
            found += further
        else:
            return Skip(f"a {node.op_type} reads it too")
    return list(dict.fromkeys(found))
