"""Compute a node whose inputs are all known, with the ONNX reference implementation."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir

from gcompile.ir.constants import Array, constant_array, is_constant

_NOT_DETERMINISTIC = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
     "Multinomial", "Dropout"}
)  # fmt: skip


def evaluate_node(node: onnx_ir.Node, opset: int) -> list[Array] | None:
    """Return the node's outputs, or None where they are not known before run time.

    Tensors without elements need nothing to be known, `Shape` and `Size` only a static shape, and
    `CastLike` only the type of what it imitates; everything else needs constant inputs.
    """
    if node.domain or node.op_type in _NOT_DETERMINISTIC or _has_subgraph(node):
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_of(node)
    if gives_nothing(node):
        return [_without_elements(value) for value in node.outputs]
    typed = node.inputs[1:] if node.op_type == "CastLike" else ()
    if not all(v is None or is_constant(v) or v in typed for v in node.inputs):
        return None
    arrays = [_of_type(v) if v in typed else constant_array(v) for v in node.inputs]
    return _run(node, arrays, opset)


def gives_nothing(node: onnx_ir.Node) -> bool:
    """Say whether every output of a node is a tensor without elements."""
    shapes = [value.shape for value in node.outputs if value.name]
    return bool(shapes) and all(
        shape is not None and shape.is_static() and 0 in shape.numpy() for shape in shapes
    )


def _without_elements(value: onnx_ir.Value) -> Array:
    dtype = value.dtype or onnx_ir.DataType.FLOAT
    return np.zeros(value.shape.numpy() if value.shape is not None else 0, dtype.numpy())


def compute_node(node: onnx_ir.Node, arrays: list[Array | None], opset: int) -> list[Array] | None:
    """Return the node's outputs for these inputs, or None where they are not known."""
    if node.domain or node.op_type in _NOT_DETERMINISTIC or _has_subgraph(node):
        return None
    return _run(node, arrays, opset)


def _of_type(value: onnx_ir.Value | None) -> Array | None:
    """Any array of the value's type."""
    if value is None or value.dtype is None:
        return None
    return np.zeros(1, value.dtype.numpy())


def _has_subgraph(node: onnx_ir.Node) -> bool:
    kinds = (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS)
    return any(attr.type in kinds for attr in node.attributes.values())


def _shape_of(node: onnx_ir.Node) -> list[Array] | None:
    value = node.inputs[0]
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    dims = np.array(value.shape.numpy(), dtype=np.int64)
    if node.op_type == "Size":
        return [np.array(dims.prod(), dtype=np.int64)]
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(dims))
    return [dims[start:end]]


def _run(node: onnx_ir.Node, arrays: list[Array | None], opset: int) -> list[Array] | None:
    names = [f"i{i}" if array is not None else "" for i, array in enumerate(arrays)]
    outputs = [f"o{i}" if value.name else "" for i, value in enumerate(node.outputs)]
    proto = onnx.NodeProto()
    proto.CopyFrom(onnx_ir.to_proto(node))
    proto.ClearField("input")
    proto.ClearField("output")
    proto.input.extend(names)
    proto.output.extend(outputs)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in outputs if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        results = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        # Whatever the reference cannot do stays in the graph.
        return None
    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        return None  # Sequences and optionals are no arrays.
    arrays_out = iter(np.asarray(result) for result in results)
    return [next(arrays_out) if name else np.zeros(0) for name in outputs]
