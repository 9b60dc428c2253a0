"""An ONNX graph as a torch module, for torch.compile and torch.export to trace.

Only operators of the suite are written. ONNX Runtime folds constants first, so that shapes are
numbers by the time torch sees them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F  # noqa: N812 - how all torch code writes it
from onnx import helper, numpy_helper
from torch import Tensor

Attributes = dict[str, Any]
Operator = Callable[..., Tensor]


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
        if node.op_type not in OPERATORS:
            raise NotImplementedError(f"operator {node.op_type} is not written for torch here")
        self.run = OPERATORS[node.op_type]
        self.inputs, self.output = list(node.input), node.output[0]
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def __call__(self, values: dict[str, Any]) -> Tensor:
        return self.run(self.attributes, *(values[name] if name else None for name in self.inputs))


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


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    x, padding = _padded(x, a.get("pads", [0] * 2 * rank), rank, 0.0)
    convolve = F.conv1d if rank == 1 else F.conv2d
    return convolve(x, w, b, strides, padding, dilations, a.get("group", 1))


def _padded(x: Tensor, pads: Sequence[int], rank: int, value: float) -> tuple[Tensor, list[int]]:
    """Leave symmetric padding to the operator; write out any other."""
    before, after = list(pads[:rank]), list(pads[rank:])
    if before == after:
        return x, before
    sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return F.pad(x, sides, value=value), [0] * rank


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.dim() - 2
    x, padding = _padded(x, a.get("pads", [0] * 2 * rank), rank, float("-inf"))
    strides = a.get("strides", [1] * rank)
    pool = F.max_pool1d if rank == 1 else F.max_pool2d
    return pool(x, a["kernel_shape"], strides, padding, ceil_mode=bool(a.get("ceil_mode", 0)))


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    pads = a.get("pads", [0] * 4)
    if any(pads):
        raise NotImplementedError("average pooling with padding is not written for torch here")
    return F.avg_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]))


def _gemm(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    scaled = a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0
    if scaled:
        raise NotImplementedError("a scaled Gemm is not written for torch here")
    return F.linear(x, w if a.get("transB", 0) else w.T, b)


def _norm(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1)
    return F.layer_norm(x, x.shape[axis:], w, b, a.get("epsilon", 1e-5))


def _gather(a: Attributes, x: Tensor, indices: Tensor | list[int] | int) -> Tensor:
    axis = a.get("axis", 0)
    if isinstance(indices, int):
        return x.select(axis, indices)
    if isinstance(indices, list):
        return x.index_select(axis, torch.tensor(indices))
    if axis == 0 and x.dim() == 2:
        return F.embedding(indices, x)
    flat = x.index_select(axis, indices.reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _reshape(a: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _slice(
    a: Attributes,
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    index = [slice(None)] * x.dim()
    axes = list(range(len(starts))) if axes is None else axes
    for i, axis in enumerate(axes):
        index[axis] = slice(starts[i], ends[i], steps[i] if steps else 1)
    return x[tuple(index)]


def _pad(a: Attributes, x: Tensor, pads: list[int] | None = None, *rest: Tensor) -> Tensor:
    sides = a["pads"] if pads is None else pads
    rank = x.dim()
    flat = [side for i in reversed(range(rank)) for side in (sides[i], sides[rank + i])]
    return F.pad(x, flat)


def _mean(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.mean(a.get("axes") if axes is None else axes, bool(a.get("keepdims", 1)))


def _clip(a: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return torch.clamp(
        x, a.get("min") if low is None else low, a.get("max") if high is None else high
    )


def _batch_norm(
    a: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, shift, eps=a.get("epsilon", 1e-5))


def _squeeze(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.squeeze(tuple(a["axes"] if axes is None else axes))


def _cast(a: Attributes, x: Tensor) -> Tensor:
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(a["to"]))
    return x.to(torch.from_numpy(np.zeros(0, dtype)).dtype)


OPERATORS: dict[str, Operator] = {
    "Add": lambda a, x, y: x + y,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Conv": _conv,
    "Div": lambda a, x, y: x / y,
    "Dropout": lambda a, x, *rest: x,
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gather": _gather,
    "Gelu": lambda a, x: F.gelu(x),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.dim())), True),
    "Identity": lambda a, x: x,
    "LayerNormalization": _norm,
    "Linear": lambda a, x, w, b=None: F.linear(x, w, b),
    "MatMul": lambda a, x, y: torch.matmul(x, y),
    "MaxPool": _max_pool,
    "Mul": lambda a, x, y: x * y,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": lambda a, x: F.relu(x),
    "Reshape": _reshape,
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda a, x: F.softmax(x, a.get("axis", -1)),
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": lambda a, x, axes=None: x.unsqueeze((a["axes"] if axes is None else axes)[0]),
}
"""What is written, by its ONNX name; each takes the node's attributes, then its inputs."""
