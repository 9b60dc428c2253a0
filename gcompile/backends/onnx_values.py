"""What ONNX's backend interface takes and gives: tensors, sequences of them, and nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from gcompile import ir


def as_given(value: Any) -> Any:
    """An argument as arrays: bytes stand for numbers that no kernel computes in."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_stored(np.asarray(element)) for element in value]
    return _stored(np.asarray(value))


class Returned:
    """What a model returns, put together from the tensors that its code returns."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.types = {value.name: value.type for value in model.graph.output}

    def gathered(self, tensors: Mapping[str, Any]) -> tuple[Any, ...]:
        """One value for each output: an array, a list of arrays for a sequence, or None."""
        return tuple(self._one(name, proto, tensors) for name, proto in self.types.items())

    def _one(self, name: str, proto: onnx.TypeProto, tensors: Mapping[str, Any]) -> Any:
        kind = proto.WhichOneof("value")
        if kind == "optional_type":
            if name not in tensors and f"{name}[0]" not in tensors:
                return None
            return self._one(name, proto.optional_type.elem_type, tensors)
        if kind == "sequence_type":
            elem = proto.sequence_type.elem_type.tensor_type.elem_type
            count = sum(1 for key in tensors if key.startswith(f"{name}["))
            return [_restored(tensors[f"{name}[{i}]"], elem) for i in range(count)]
        found = tensors[name] if name in tensors else tensors[f"{name}[0]"]
        return _restored(found, proto.tensor_type.elem_type)


def _stored(array: Any) -> Any:
    if array.dtype.kind in "OUS":  # Strings have no bytes of a fixed number.
        return array
    dtype = ir.DataType.from_numpy(array.dtype)
    return ir.stored(array, dtype) if dtype in ir.NARROW else array


def _restored(array: Any, elem_type: int) -> Any:
    dtype = ir.DataType(elem_type)
    return ir.restored(array, dtype) if dtype in ir.NARROW else array
