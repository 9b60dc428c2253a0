"""Constants of a graph: read them, add them."""

from __future__ import annotations

import numpy as np
import onnx_ir
from numpy.typing import NDArray

Array = NDArray[np.generic]


def is_constant(value: onnx_ir.Value | None) -> bool:
    """Say whether the value is an initializer: its data is known and no caller can change it."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def constant_array(value: onnx_ir.Value | None) -> Array | None:
    """Return the value's data when it is a constant, else None. Reading may map a file."""
    if value is None or not is_constant(value) or value.const_value is None:
        return None
    return value.const_value.numpy()


def add_constant(graph: onnx_ir.Graph, name: str, array: Array) -> onnx_ir.Value:
    """Register a new initializer under `name`, made unique by a suffix where it is taken."""
    unique, count = name, 0
    while unique in graph.initializers or any(v.name == unique for v in graph.inputs):
        count += 1
        unique = f"{name}_{count}"
    tensor = onnx_ir.tensor(array, name=unique)
    value = onnx_ir.Value(name=unique, shape=onnx_ir.Shape(array.shape), const_value=tensor)
    value.dtype = tensor.dtype
    graph.register_initializer(value)
    return value


def return_constant(graph: onnx_ir.Graph, value: onnx_ir.Value, array: Array) -> None:
    """Let a graph output, and whoever reads it, be a constant instead of what made it.

    The output's name is the model's interface and stays: an Identity has it.
    """
    name = str(value.name)
    value.name = f"{name}::folded"
    constant = add_constant(graph, f"{name}::constant", array)
    node = onnx_ir.Node("", "Identity", [constant], name=f"{name}::constant")
    result = node.outputs[0]
    result.name, result.shape, result.type = name, onnx_ir.Shape(array.shape), value.type
    producer = value.producer()
    if producer is None:
        raise ValueError(f"{name!r} is not computed.")
    graph.insert_before(producer, node)
    value.replace_all_uses_with(result, replace_graph_outputs=True)
