"""Compute models of 16-bit floats in fp32, for targets without units for them.

Every internal fp16 or bfloat16 value and weight becomes fp32; the model's inputs and outputs keep
their type, with one Cast each. fp32 holds every number of both, so results only differ by being
rounded less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.store_narrow import Names

_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
_HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


@dataclass(frozen=True)
class WidenFloat16(Pass):
    """Turn values and weights of 16-bit floats into fp32, with casts at the border only."""

    name: ClassVar[str] = "widen-float16"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        nodes = [node for node in ir.all_nodes(model) if _makes_float16(node)]
        inputs = [value for value in model.graph.inputs if _is_read_as_float16(value)]
        constants = [
            value
            for graph in ir.all_graphs(model)
            for value in graph.initializers.values()
            if value.dtype in _HALF and not value.is_graph_output()
        ]
        namer = Names(model)
        for value in constants:
            _widen_constant(value)
        for value in inputs:
            _widen_input(model.graph, value, namer)
        for index, value in enumerate(model.graph.outputs):
            if value.producer() in nodes and value.dtype in _HALF:
                model.graph.outputs[index] = _narrow_output(model.graph, value, namer)
        for node in nodes:
            _widen_node(node)
        for node in list(ir.all_nodes(model)):
            _remove_same_type_cast(node)
        return len(nodes) + len(inputs) + len(constants)


def _makes_float16(node: ir.Node) -> bool:
    """Say whether the node computes in 16 bits; the cast before a model output only rounds."""
    if all(value.dtype not in _HALF for value in node.outputs):
        return False
    if node.op_type != "Cast" or not node.outputs[0].is_graph_output():
        return True
    source = node.inputs[0]
    return bool(node.outputs[0].uses()) or source is None or source.dtype in _HALF


def _is_read_as_float16(value: ir.Value) -> bool:
    if value.dtype not in _HALF:
        return False
    return any(use.node.op_type != "Cast" for use in value.uses())


def _widen_constant(value: ir.Value) -> None:
    array = ir.constant_array(value)
    assert array is not None
    value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
    value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_input(graph: ir.Graph, value: ir.Value, namer: Names) -> None:
    uses = [use for use in value.uses() if use.node.op_type != "Cast"]
    cast = _cast(value, ir.DataType.FLOAT, namer.new_value(f"{value.name}_widened"), namer)
    graph.insert_before(graph[0], cast)
    ir.add_origin(cast, [use.node for use in uses[:1]], WidenFloat16.name)
    for use in uses:
        use.node.replace_input_with(use.idx, cast.outputs[0])


def _narrow_output(graph: ir.Graph, value: ir.Value, namer: Names) -> ir.Value:
    """Give the output's name to a cast after it: the name is the model's interface."""
    name, dtype = str(value.name), value.dtype
    assert dtype is not None
    value.name = namer.new_value(f"{name}_widened")
    cast = _cast(value, dtype, name, namer)
    producer = value.producer()
    assert producer is not None
    graph.insert_after(producer, cast)
    ir.add_origin(cast, [producer], WidenFloat16.name)
    return cast.outputs[0]


def _cast(value: ir.Value, dtype: ir.DataType, name: str, namer: Names) -> ir.Node:
    to = ir.Attr("to", ir.AttributeType.INT, int(dtype))
    node = ir.Node("", "Cast", [value], [to], num_outputs=1, name=namer.new_node(f"{name}/Cast"))
    out = node.outputs[0]
    out.name, out.shape, out.dtype = name, value.shape, dtype
    return node


def _widen_node(node: ir.Node) -> None:
    for value in node.outputs:
        if value.dtype in _HALF:
            value.type = ir.TensorType(ir.DataType.FLOAT)  # Copies of the model share the old one.
    for name, attr in list(node.attributes.items()):
        if name in _DTYPE_ATTRIBUTES and attr.type is ir.AttributeType.INT:
            if attr.as_int() in _HALF:
                node.attributes[name] = ir.Attr(name, attr.type, int(ir.DataType.FLOAT))
        elif attr.type is ir.AttributeType.TENSOR:
            array = attr.as_tensor().numpy()
            if attr.as_tensor().dtype in _HALF:
                wide = ir.tensor(array.astype(np.float32))
                node.attributes[name] = ir.Attr(name, attr.type, wide)


def _remove_same_type_cast(node: ir.Node) -> None:
    if node.op_type != "Cast" or node.domain or node.inputs[0] is None or node.graph is None:
        return
    source, result = node.inputs[0], node.outputs[0]
    same = source.dtype is ir.DataType.FLOAT and result.dtype is source.dtype
    if same and not result.is_graph_output():
        result.replace_all_uses_with(source)
        node.graph.remove(node, safe=True)
