"""Weights that lie in files beside the model: checked before anything opens them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx_ir

from gcompile.errors import InvalidModelError
from gcompile.ir.walk import all_graphs

SMALL_BYTES = 4096
"""Weights up to this size are passed through ONNX's own tools: shapes may depend on them."""


def check_external_data(model: onnx_ir.Model, path: Path) -> None:
    """Refuse files outside the model's folder, read small weights, leave large ones on disk.

    Args:
        model: As it was read, changed in place.
        path: The model's file.

    Raises:
        InvalidModelError: A file lies elsewhere, is missing, or is too short.
    """
    folder = path.resolve().parent
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, onnx_ir.ExternalTensor):
                _check(tensor, str(value.name), folder)
                if tensor.nbytes <= SMALL_BYTES or graph is not model.graph:
                    value.const_value = _read(tensor)
    for node, name, tensor in _attributes(model):
        _check(tensor, f"{node.name or node.op_type}.{name}", folder)
        node.attributes[name] = onnx_ir.AttrTensor(name, _read(tensor))


def _attributes(
    model: onnx_ir.Model,
) -> Iterator[tuple[onnx_ir.Node, str, onnx_ir.ExternalTensor]]:
    """Attributes whose numbers lie in a file, as `Constant` may have, in functions too."""
    graphs = [*all_graphs(model), *(function.graph for function in model.functions.values())]
    for graph in graphs:
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, onnx_ir.ExternalTensor):
                    yield node, name, attribute.value


def _check(tensor: onnx_ir.ExternalTensor, name: str, folder: Path) -> None:
    file = (folder / str(tensor.location)).resolve()
    if not file.is_relative_to(folder):
        raise InvalidModelError(
            f"Weight {name!r} points outside the model's folder ({str(tensor.location)!r}). Save "
            "the model with its data beside it."
        )
    end = (tensor.offset or 0) + (tensor.length or 0)
    if not file.is_file() or file.stat().st_size < end:
        raise InvalidModelError(
            f"The external data file {file.name!r} of weight {name!r} is missing or too short. "
            "Copy it beside the model."
        )


def _read(tensor: onnx_ir.ExternalTensor) -> onnx_ir.TensorProtocol:
    return onnx_ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
