"""Write a model: to a file, to protobuf, to text."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
    is_outside = any(
        isinstance(value.const_value, onnx_ir.ExternalTensor)
        for graph in model.graphs()
        for value in graph.initializers.values()
    )
    return onnx_ir.external_data.load_to_model(model.clone()) if is_outside else model
