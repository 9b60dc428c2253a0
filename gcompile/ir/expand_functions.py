"""Operators that ONNX itself defines by others are written out where nothing else knows them.

Their definition is the function of the operator's schema; it becomes a function of the model,
which is inlined like any other.
"""

from __future__ import annotations

import onnx
import onnx_ir
from onnx import FunctionProto, TypeProto, helper
from onnx.defs import OpSchema, SchemaError

from gcompile.ir.infer import infer_graph
from gcompile.ir.walk import all_nodes

_DOMAIN = "gcompile.expanded"
_WRITTEN_OUT = frozenset(
    {"Celu", "CenterCropPad", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss",
     "BlackmanWindow", "HammingWindow", "HannWindow", "MeanVarianceNormalization", "SpaceToDepth"}
)  # fmt: skip
"""Operators that no backend has kernels for."""

_PREVIEW = "ai.onnx.preview"
"""Operators of this domain are all defined by others."""

_FIRST_OUTPUT = frozenset({"LayerNormalization"})
"""Operators whose kernels compute the first output only."""


def expand_functions(model: onnx_ir.Model, newest: int) -> int:
    """Turn such operators into calls of functions of the model, in place; return how many.

    So are operators that opset `newest` does not have yet. Definitions may need others: once they
    are inlined, this is called again.
    """
    version = model.graph.opset_imports.get("", newest)
    found = [
        node
        for node in all_nodes(model)
        if node.domain == _PREVIEW
        or (node.domain in ("", "ai.onnx") and _is_written_out(node, version, newest))
    ]
    for node in found:
        _add_defaults(node, _schema_of(model, node, version))
    if found:  # Some definitions depend on the types of what the node reads.
        infer_graph(model.graph, model.opset_imports)
    return sum(_make_call(model, node, version) for node in found)


def _is_written_out(node: onnx_ir.Node, version: int, newest: int) -> bool:
    if node.op_type in _WRITTEN_OUT or (node.op_type in _FIRST_OUTPUT and _has_more_outputs(node)):
        return True
    return version > newest and _schema(node.op_type, newest) is None


def _has_more_outputs(node: onnx_ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def _schema(op_type: str, version: int, domain: str = "") -> OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except SchemaError:
        return None


def _schema_of(model: onnx_ir.Model, node: onnx_ir.Node, version: int) -> OpSchema | None:
    if node.domain == _PREVIEW:
        return _schema(node.op_type, model.opset_imports.get(_PREVIEW, 1), _PREVIEW)
    return _schema(node.op_type, version)


def _add_defaults(node: onnx_ir.Node, schema: OpSchema | None) -> None:
    """Definitions read attributes that nodes may leave out."""
    for name, attribute in schema.attributes.items() if schema is not None else ():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = onnx_ir.from_proto(attribute.default_value)


def _make_call(model: onnx_ir.Model, node: onnx_ir.Node, version: int) -> bool:
    own = model.opset_imports.get(_PREVIEW, 1) if node.domain == _PREVIEW else version
    schema = _schema_of(model, node, version)
    proto = _definition(schema, node, own) if schema is not None else None
    if schema is None or proto is None:
        return False
    for name in [n for n, a in node.attributes.items() if a.type is onnx_ir.AttributeType.GRAPH]:
        del node.attributes[name]  # The definition holds the graph already.
        proto.attribute.remove(name)
    _complete_outputs(proto)
    for inner in proto.node:  # They come from where the operator comes from.
        for key, value in node.metadata_props.items():
            inner.metadata_props.add(key=key, value=value)
    proto.domain = _DOMAIN
    proto.name = f"{node.op_type}_{len(model.functions)}"
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", version))
    function = onnx_ir.from_proto(proto)
    model.functions[function.identifier()] = function
    model.opset_imports[_DOMAIN] = 1
    node.resize_outputs(len(proto.output))
    node.domain, node.op_type = _DOMAIN, proto.name
    return True


def _definition(schema: OpSchema, node: onnx_ir.Node, version: int) -> FunctionProto | None:
    """The function of an operator for this node, by the rules of the opset."""
    if known := [v for v in schema.function_opset_versions if v <= version]:
        return FunctionProto.FromString(schema.get_function_with_opset_version(max(known)))
    if not (
        known := [v for v in schema.context_dependent_function_opset_versions if v <= version]
    ):
        return None
    text = schema.get_context_dependent_function_with_opset_version(
        max(known), onnx_ir.to_proto(node).SerializeToString(), _types(node)
    )
    return FunctionProto.FromString(text) if text else None


def _complete_outputs(function: FunctionProto) -> None:
    """Outputs that nobody asked for are named but not computed: any number stands for them."""
    made = {name for node in function.node for name in node.output} | set(function.input)
    for name in function.output:
        if name not in made:
            function.node.append(helper.make_node("Constant", [], [name], value_float=0.0))


def _types(node: onnx_ir.Node) -> list[bytes]:
    types = []
    for value in node.inputs:
        proto = TypeProto()
        if value is not None and value.dtype is not None:
            proto.tensor_type.elem_type = value.dtype.value
            for size in value.shape or ():
                dimension = proto.tensor_type.shape.dim.add()
                if isinstance(size, int):
                    dimension.dim_value = size
        types.append(proto.SerializeToString())
    return types
