"""Infer the shapes of one graph with ONNX's own rules, and of the branches inside it.

ONNX's inference does not see, from inside a branch, the constants of the graph around it. So each
branch is inferred as a model of its own, whose inputs are the values it captures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import onnx
import onnx_ir

from gcompile.errors import InvalidModelError
from gcompile.ir.bounded.operators import infer_bounded
from gcompile.ir.constants import constant_array
from gcompile.ir.newer import infer_newer
from gcompile.ir.unknown_shapes import NOT_UNROLLED

_SMALL_TENSOR_ELEMENTS = 1024
"""Constants up to this size may decide a shape, so inference gets to see their values."""

_FAILING_NODE = "(op_type:"
_STUMBLES = ("already exists", "Invalid rank for")
_FAILURES = (onnx.shape_inference.InferenceError, RuntimeError, ValueError)


def infer_graph(graph: onnx_ir.Graph, opsets: Mapping[str, int]) -> None:
    """Set the shape and type of every value of the graph and of the branches in it.

    Raises:
        InvalidModelError: Two shapes contradict each other.
    """
    _infer_scope(graph, opsets)
    while infer_newer(graph) | infer_bounded(graph) | _infer_forgotten(graph):
        _infer_scope(graph, opsets)
    learned = False
    for node in graph:
        branches = _branches(node)
        for branch in branches:
            infer_graph(branch, opsets)
        learned |= _copy_from_branches(node, branches)
        if is_kept_loop(node):
            learned |= _infer_loop(node, opsets)
    if learned:
        _infer_scope(graph, opsets)


def is_kept_loop(node: onnx_ir.Node) -> bool:
    """Say whether the node is a Loop whose rounds only the data decides."""
    return node.op_type == "Loop" and not node.domain and NOT_UNROLLED in node.metadata_props


def _infer_loop(node: onnx_ir.Node, opsets: Mapping[str, int]) -> bool:
    """Where each round gives states the shapes they had, they are the shapes of the outputs."""
    body, states = node.attributes["body"].as_graph(), node.inputs[2:]
    if len(body.outputs) != 1 + len(states) or not all(map(_is_static, states)):
        return False
    single = onnx_ir.Shape(())
    body.inputs[0].shape, body.inputs[0].dtype = single, onnx_ir.DataType.INT64
    body.inputs[1].shape, body.inputs[1].dtype = single, onnx_ir.DataType.BOOL
    for inner, state in zip(body.inputs[2:], states, strict=True):
        assert state is not None
        inner.shape, inner.type = state.shape, state.type
    infer_graph(body, opsets)
    if any(i.shape != o.shape for i, o in zip(body.inputs[2:], body.outputs[1:], strict=True)):
        return False
    learned = False
    for value, state in zip(node.outputs, states, strict=False):
        assert state is not None
        learned |= value.shape != state.shape
        value.shape, value.type = state.shape, state.type
    return learned


def _is_static(value: onnx_ir.Value | None) -> bool:
    return value is not None and value.shape is not None and value.shape.is_static()


def _branches(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    """The branches of an If. The bodies of loops take shapes that change between rounds."""
    if node.op_type != "If" or node.domain:
        return []
    return [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]


def _copy_from_branches(node: onnx_ir.Node, branches: list[onnx_ir.Graph]) -> bool:
    """Where all branches agree on the shape of an output, it is the shape of the node's output."""
    learned = False
    for index, value in enumerate(node.outputs if branches else ()):
        shapes = [branch.outputs[index].shape for branch in branches]
        first = shapes[0]
        if first is None or not first.is_static() or any(s != first for s in shapes):
            continue
        learned |= value.shape != first
        value.shape, value.type = first, branches[0].outputs[index].type
    return learned


def _infer_scope(graph: onnx_ir.Graph, opsets: Mapping[str, int]) -> None:
    proto = _as_model(graph, opsets)
    try:
        inferred = _inferred(proto)
    except _FAILURES as error:
        raise InvalidModelError(
            f"The shapes of the model contradict each other: {_first_sentence(error)} "
            "Check --shape against the shapes the model was exported for, and --freeze an input "
            "that chooses between branches."
        ) from error
    found = {info.name: info.type for info in (*inferred.graph.value_info, *inferred.graph.output)}
    for value in (value for node in graph for value in node.outputs):
        if value.name in found:
            _set_type(value, found[value.name])


def _infer_forgotten(graph: onnx_ir.Graph) -> bool:
    """Infer operators for which ONNX forgot the rule; return whether any was new."""
    found = _forgotten(graph)
    for value, proto in found:
        _set_type(value, proto)
    return bool(found)


def _forgotten(graph: onnx_ir.Graph) -> list[tuple[onnx_ir.Value, onnx.TypeProto]]:
    """Their outputs whose types are not known, and what these are."""
    found = []
    for node in graph:
        if node.domain or node.op_type not in ("GroupNormalization", "MaxUnpool"):
            continue
        x, output = node.inputs[0], node.outputs[0]
        if x is None or x.shape is None or (output.shape is not None and output.shape.is_static()):
            continue
        proto = onnx_ir.to_proto(x).type
        if node.op_type == "MaxUnpool":
            sizes = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
            if sizes is None:
                continue
            for dimension, size in zip(proto.tensor_type.shape.dim, sizes, strict=True):
                dimension.dim_value = int(size)
        found.append((output, proto))
    return found


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Infer with the values of small constants, and without where ONNX trips over them.

    It does where branches inside branches read one value: "Data for input 0 already exists"; and
    where it adds values of other ranks: "Invalid rank for Add broadcasting".
    """
    infer = partial(onnx.shape_inference.infer_shapes, check_type=True, strict_mode=True)
    try:
        return infer(proto, data_prop=True)
    except _FAILURES as error:
        if not any(words in str(error) for words in _STUMBLES):
            raise
        return infer(proto)


def _first_sentence(error: Exception) -> str:
    """ONNX lists a line per failing node, after a heading or behind it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if _FAILING_NODE in line), lines[0] if lines else "")
    return (text[max(text.find(_FAILING_NODE), 0) :] or type(error).__name__).rstrip(".") + "."


def _set_type(value: onnx_ir.Value, proto: onnx.TypeProto) -> None:
    shape = onnx_ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is not None and value.shape != shape:
        value.shape = shape
    known = onnx_ir.serde.deserialize_type_proto_for_type(proto)
    if known is not None:
        value.type = known


def _as_model(graph: onnx_ir.Graph, opsets: Mapping[str, int]) -> onnx.ModelProto:
    """Write the graph as a model; whatever it reads from outside becomes an input."""
    proto = onnx.GraphProto(name="scope")
    # `to_proto` finds out what it was given by protocols, which takes longer than writing a node.
    proto.node.extend(map(onnx_ir.serde.serialize_node, graph))
    for value in dict.fromkeys((*graph.inputs, *_read_from_outside(graph))):
        constant = value.const_value
        if constant is not None:
            value.shape = onnx_ir.Shape(constant.shape.numpy())
            value.dtype = constant.dtype
            if constant.size <= _SMALL_TENSOR_ELEMENTS:
                proto.initializer.append(onnx_ir.to_proto(constant))
                proto.initializer[-1].name = str(value.name)
        proto.input.append(onnx_ir.serde.serialize_value(value))
    known = (value for node in graph for value in node.outputs if value.shape is not None)
    proto.value_info.extend(map(onnx_ir.serde.serialize_value, known))
    computed = (value for value in graph.outputs if value.producer() is not None)
    proto.output.extend(map(onnx_ir.serde.serialize_value, computed))
    ids = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return onnx.helper.make_model(proto, opset_imports=ids, ir_version=10)


def _read_from_outside(graph: onnx_ir.Graph) -> Iterable[onnx_ir.Value]:
    """The values a graph, or a branch inside it, reads and does not produce."""
    inside = {value for node in graph.all_nodes() for value in node.outputs}
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is not None and value not in inside and value.name:
                yield value
