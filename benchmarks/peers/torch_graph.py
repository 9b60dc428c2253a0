"""An ONNX graph as a torch module, for torch.compile and torch.export to trace.

Only operators of the suite are written. ONNX Runtime folds constants first, so that shapes are
numbers by the time torch sees them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F  # noqa: N812 - how all torch code writes it
from onnx import helper, numpy_helper
from torch import Tensor

from gcompile.train.operators import OPERATORS, Attributes, Operator


class TorchGraph(torch.nn.Module):  # type: ignore[misc]
    """Runs the nodes in order; floating-point initializers are parameters.

    Raises:
        NotImplementedError: The graph has an operator that is not written here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = _folded(path).graph
        _write_linears(graph)
        self.steps = [_Step(node) for node in graph.node]
        self.constants: dict[str, Any] = {}
        self.slots: dict[str, str] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        self.inputs = [value.name for value in graph.input if value.name not in self.slots]
        self.outputs = [value.name for value in graph.output]
        self.is_bfloat16 = False

    def in_bfloat16(self) -> TorchGraph:
        """Compute in bfloat16; inputs and outputs stay float32."""
        self.is_bfloat16 = True
        self.to(torch.bfloat16)
        return self

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: dict[str, Any] = dict(self.constants)
        values.update({name: getattr(self, slot) for name, slot in self.slots.items()})
        for name, value in zip(self.inputs, inputs, strict=True):
            is_cast = self.is_bfloat16 and value.is_floating_point()
            values[name] = value.bfloat16() if is_cast else value
        for step in self.steps:
            values[step.output] = step(values)
        results = [values[name] for name in self.outputs]
        return tuple(r.float() if r.is_floating_point() else r for r in results)

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Scalars, shapes and axes are Python numbers; everything else is a tensor."""
        if array.ndim == 0:
            self.constants[name] = array.item()
            return
        if array.dtype.kind in "iu" and array.ndim == 1:
            self.constants[name] = array.tolist()
            return
        self.slots[name] = f"weight_{len(self.slots)}"
        tensor = torch.from_numpy(array.copy())
        if array.dtype.kind == "f":
            self.register_parameter(self.slots[name], torch.nn.Parameter(tensor, False))
        else:
            self.register_buffer(self.slots[name], tensor)


class _Step:
    """One node."""

    def __init__(self, node: onnx.NodeProto) -> None:
        if node.op_type not in _RUN:
            raise NotImplementedError(f"operator {node.op_type} is not written for torch here")
        self.run = _RUN[node.op_type]
        self.inputs, self.output = list(node.input), node.output[0]
        self.attributes = {a.name: _attribute(a) for a in node.attribute}

    def __call__(self, values: dict[str, Any]) -> Tensor:
        return self.run(self.attributes, *(values[name] if name else None for name in self.inputs))


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _folded(path: Path) -> onnx.ModelProto:
    """The graph with its constants folded by ONNX Runtime, which keeps standard operators."""
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(path, options)
        return onnx.load(options.optimized_model_filepath)


def _write_linears(graph: onnx.GraphProto) -> None:
    """Write products with constant matrices, and their biases, as the linear layers torch knows.

    Quantizers and weight packing look for those; weights are stored transposed, as layers do.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in [n for n in graph.node if n.op_type == "MatMul"]:
        weight = constants.get(node.input[1])
        if weight is None or len(weight.dims) != 2 or len(readers[weight.name]) > 1:
            continue
        transposed = numpy_helper.to_array(weight).T.copy()
        weight.CopyFrom(numpy_helper.from_array(transposed, weight.name))
        node.op_type = "Linear"
        following = readers.get(node.output[0], [])
        if len(following) == 1 and (bias := _bias(following[0], constants)) is not None:
            node.input.append(bias)
            node.output[0] = following[0].output[0]
            graph.node.remove(following[0])


def _bias(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> str | None:
    """The constant vector that an Add adds."""
    if node.op_type != "Add":
        return None
    vectors = (n for n in node.input if n in constants and len(constants[n].dims) == 1)
    return next(vectors, None)


def _cast(a: Attributes, x: Tensor) -> Tensor:
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(a["to"]))
    return x.to(torch.from_numpy(np.zeros(0, dtype)).dtype)


_RUN: dict[str, Operator] = OPERATORS | {
    "Cast": _cast,
    "Linear": lambda a, x, w, b=None: F.linear(x, w, b),
}
"""What is written, by its ONNX name; each takes the node's attributes, then its inputs."""
