"""A ready model as bytes, for another process to go on with."""

from __future__ import annotations

import onnx
import onnx_ir

from gcompile.errors import UsageError
from gcompile.ir.write import to_proto

_LIMIT_BYTES = (2 << 30) - 1
"""The most that a protobuf message can hold."""


def to_bytes(model: onnx_ir.Model) -> bytes:
    """Write a ready model with its weights, regions and names.

    Raises:
        UsageError: Its weights take 2 GiB or more.
    """
    weights = sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    if weights > _LIMIT_BYTES:
        raise UsageError(
            f"The model's weights take {weights / 2**30:.1f} GiB, and models of 2 GiB and more "
            "cannot be sent to workers. Leave out --workers."
        )
    data: bytes = to_proto(model).SerializeToString(deterministic=True)
    return data


def from_bytes(data: bytes) -> onnx_ir.Model:
    """Read what `to_bytes` wrote in a process of one's own; it is ready as it is."""
    model: onnx_ir.Model = onnx_ir.from_proto(onnx.load_from_string(data))
    return model
