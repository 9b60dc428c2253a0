"""Weights of large models that ONNX Runtime maps from the file they came in.

Weights that are given as arrays it copies, which takes as much memory again.
"""

from __future__ import annotations

import onnx
import onnx_ir

from gcompile import ir

_LARGE_BYTES = 1 << 30
"""Weights of fewer bytes are given as arrays."""


def leave_in_file(model: ir.Model, proto: onnx.ModelProto, weights: dict[str, ir.Array]) -> str:
    """Let declared weights point into their file, and take them from `weights`.

    Returns:
        The folder of the file; nothing where weights are not large, or not all from one folder.
    """
    found = {
        name: tensor
        for name in weights
        if isinstance(tensor := model.graph.initializers[name].const_value, onnx_ir.ExternalTensor)
    }
    folders = {str(tensor.base_dir) for tensor in found.values()}
    if sum(tensor.nbytes for tensor in found.values()) < _LARGE_BYTES or len(folders) != 1:
        return ""
    for initializer in proto.graph.initializer:
        if initializer.name not in found:
            continue
        tensor = found[initializer.name]
        places = {
            "location": tensor.location, "offset": tensor.offset or 0, "length": tensor.nbytes
        }  # fmt: skip
        del initializer.external_data[:]
        for key, value in places.items():
            entry = initializer.external_data.add()
            entry.key, entry.value = key, str(value)
        del weights[initializer.name]
    return folders.pop()
