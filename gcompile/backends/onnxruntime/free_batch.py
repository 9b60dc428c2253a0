"""Free the batch dimension of a model that was made for one inference at a time."""

from __future__ import annotations

import numpy as np
import onnx

_BATCH = "gcompile_batch"


def with_free_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs have a symbolic leading dimension, and reshapes that keep it."""
    free = onnx.ModelProto()
    free.CopyFrom(proto)
    graph = free.graph
    shapes = {v.name: _dims(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        leading = shapes.get(node.input[0], ()) if node.input else ()
        if node.op_type == "Reshape" and leading[:1] == (1,) and node.input[1] in constants:
            target = onnx.numpy_helper.to_array(constants[node.input[1]])
            if target.size and target[0] == 1:
                name = f"{node.name}_{_BATCH}"
                kept = np.array([0, *target[1:]], np.int64)
                graph.initializer.append(onnx.numpy_helper.from_array(kept, name))
                node.input[1] = name
    return free


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
