"""Write a model: to a file, to protobuf, to text."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir

EXTERNAL_DATA_BYTES = 1 << 30
"""Weights beyond this total go to a side file: protobuf ends at 2 GiB."""

IR_VERSION = 10
"""Stamped into every file written: newer stamps are refused by older runtimes."""


def to_proto(model: onnx_ir.Model) -> onnx.ModelProto:
    """Convert to protobuf, with weights inside."""
    return onnx_ir.to_proto(_with_weights_inside(model))


def node_proto(node: onnx_ir.Node) -> onnx.NodeProto:
    """Convert one node, without its metadata."""
    proto = onnx.NodeProto()
    proto.CopyFrom(onnx_ir.to_proto(node))
    proto.ClearField("metadata_props")
    return proto


def to_text(model: onnx_ir.Model) -> str:
    """Write the ONNX text format, as tests show it."""
    return str(onnx.printer.to_text(onnx_ir.to_proto(model)))


def save(model: onnx_ir.Model, path: str | Path) -> None:
    """Write the model atomically; large weights go to `<name>.data` beside it."""
    path = Path(path)
    nbytes = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        external = f"{path.name}.data" if nbytes > EXTERNAL_DATA_BYTES else None
        whole = model if external else _with_weights_inside(model)
        onnx_ir.save(whole, partial, external_data=external)
        if external:
            os.replace(Path(folder) / external, path.parent / external)
        os.replace(partial, path)


def _with_weights_inside(model: onnx_ir.Model) -> onnx_ir.Model:
    """The model itself, or a copy of one whose weights still lie where it was read from."""
    if not any(_outside(graph) for graph in model.graphs()):
        return model
    whole = model.clone()
    for graph in whole.graphs():
        for value in _outside(graph):
            tensor = value.const_value
            if tensor is not None:  # A copy: others may still look at the file through arrays.
                array = np.array(tensor.numpy())
                value.const_value = onnx_ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)
    return whole


def _outside(graph: onnx_ir.Graph) -> list[onnx_ir.Value]:
    """Weights that still lie in a file."""
    values = graph.initializers.values()
    return [v for v in values if isinstance(v.const_value, onnx_ir.ExternalTensor)]
