"""Inputs of a model that are sequences or optionals become the tensors in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir

from gcompile.errors import UsageError
from gcompile.ir.constants import Array

Given = Array | Sequence[Array] | None
"""What an input is given: a tensor, the tensors of a sequence, or nothing."""


def is_tensor(value: onnx_ir.Value) -> bool:
    """Say whether the value is neither a sequence nor an optional."""
    return not isinstance(value.type, onnx_ir.SequenceType | onnx_ir.OptionalType)


def take_elements(model: onnx_ir.Model, given: Mapping[str, Given]) -> dict[str, Array]:
    """Let the model take `name[0]`, `name[1]` and so on instead of a sequence, in place.

    Returns:
        The tensors by the names under which the model takes them.

    Raises:
        UsageError: A tensor is given something else.
    """
    tensors: dict[str, Array] = {}
    for value in list(model.graph.inputs):
        name = str(value.name)
        if name not in given:
            continue
        array = given[name]
        if is_tensor(value):
            if array is None or isinstance(array, Sequence):
                raise UsageError(f"Input {name!r} is a tensor: give an array.")
            tensors[name] = array
        else:
            tensors |= _take(model.graph, value, array)
    return tensors


def _take(graph: onnx_ir.Graph, value: onnx_ir.Value, given: Given) -> dict[str, Array]:
    arrays = [] if given is None else given if isinstance(given, Sequence) else [given]
    names = [f"{value.name}[{index}]" for index in range(len(arrays))]
    tensors = dict(zip(names, arrays, strict=True))
    place = list(graph.inputs).index(value)
    graph.inputs.remove(value)
    elements = [_input(name, array) for name, array in tensors.items()]
    for index, element in enumerate(elements):
        graph.inputs.insert(place + index, element)
    held: Sequence[onnx_ir.Value] = elements
    made = []
    if isinstance(given, Sequence):
        operator = "SequenceConstruct" if elements else "SequenceEmpty"
        made.append(onnx_ir.Node("", operator, elements, name=f"{value.name}::sequence"))
        held = made[-1].outputs
    if isinstance(value.type, onnx_ir.OptionalType):
        nothing = [onnx_ir.AttrTypeProto("type", _element_type(value.type))]
        made.append(
            onnx_ir.Node(
                "", "Optional", held, [] if held else nothing, name=f"{value.name}::optional"
            )
        )
    for node in made:
        node.outputs[0].name = node.name
    made[-1].outputs[0].type = value.type
    if len(made) > 1 and isinstance(value.type, onnx_ir.OptionalType):
        made[0].outputs[0].type = value.type.elem_type
    if len(graph):
        graph.insert_before(graph[0], made)
    else:
        graph.extend(made)
    value.replace_all_uses_with(made[-1].outputs[0], replace_graph_outputs=True)
    return tensors


def _input(name: str, array: Array) -> onnx_ir.Value:
    dtype = onnx_ir.DataType.from_numpy(array.dtype)
    return onnx_ir.Value(
        name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(dtype)
    )


def _element_type(optional: onnx_ir.OptionalType) -> onnx_ir.TypeAndShape:
    return onnx_ir.TypeAndShape(optional.elem_type, None)
