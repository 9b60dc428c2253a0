"""Write a network node by node, with weights drawn or left to a shared file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
SHARED_WEIGHTS = "weights.bin"
_WINDOW_BYTES = 4096


@dataclass
class GraphWriter:
    """Writes a network node by node; activations of convolutional networks are NCHW.

    Attributes:
        rng: Draws the weights; None leaves them in the file that `save` writes.
    """

    rng: np.random.Generator | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, array: NDArray[np.floating], hint: str) -> str:
        """Add a weight and return its name."""
        name = f"{hint}_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def weight(self, shape: tuple[int, ...], deviation: float, hint: str = "weight") -> str:
        """Add a normally distributed weight and return its name."""
        if self.rng is not None:
            return self.constant(self.rng.normal(0, deviation, shape), hint)
        name = f"{hint}_{len(self.weights)}"
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        # Each tensor starts elsewhere, so that no two have the same content.
        place = {"offset": len(self.weights) * _WINDOW_BYTES, "length": 4 * int(np.prod(shape))}
        for key, value in {"location": SHARED_WEIGHTS, **place}.items():
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Add a node with one output and return the output's name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self,
        x: str,
        channels: tuple[int, int],
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        bias: bool = False,
    ) -> str:
        """A convolution with same padding and He-initialized weights."""
        inside, outside = channels
        shape = (outside, inside // groups, kernel, kernel)
        deviation = float(np.sqrt(2.0 / np.prod(shape[1:])))
        weights = [self.weight(shape, deviation)]
        if bias:
            weights.append(self.weight((outside,), 0.1, "bias"))
        pad = kernel // 2
        return self.add(
            "Conv", x, *weights, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            group=groups,
        )  # fmt: skip

    def batch_norm(self, x: str, channels: int) -> str:
        """Batch normalization with plausible statistics."""
        rng = self.rng or np.random.default_rng(0)
        parameters = [
            rng.uniform(0.8, 1.2, channels),
            rng.normal(0, 0.1, channels),
            rng.normal(0, 0.1, channels),
            rng.uniform(0.8, 1.2, channels),
        ]
        names = [self.constant(values, "norm") for values in parameters]
        return self.add("BatchNormalization", x, *names)

    def relu6(self, x: str) -> str:
        """Clip to 0 and 6."""
        return self.add("Clip", x, self.scalar(0.0), self.scalar(6.0))

    def scalar(self, value: float) -> str:
        """Add a scalar constant once and return its name."""
        name = f"scalar_{value:g}"
        if all(tensor.name != name for tensor in self.weights):
            self.weights.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def constant_ints(self, values: tuple[int, ...]) -> str:
        """Add a shape and return its name."""
        name = f"shape_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def linear(self, x: str, features: tuple[int, int]) -> str:
        """A fully connected layer."""
        inside, outside = features
        weight = self.weight((outside, inside), 1 / float(np.sqrt(inside)))
        return self.add("Gemm", x, weight, self.weight((outside,), 0.01, "bias"), transB=1)

    def model(self, x: str, shape: tuple[int, ...], y: str, classes: int) -> onnx.ModelProto:
        """Finish the model: one input `x` of `shape`, one output of `classes` logits."""
        return self.image_model(x, shape, y, (shape[0], classes))

    def image_model(
        self, x: str, shape: tuple[int, ...], y: str, result: tuple[int, ...]
    ) -> onnx.ModelProto:
        """Finish the model: one input `x` of `shape`, one output of shape `result`."""
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, result)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, and the shared file of weights beside it as far as the model reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    places = [
        {entry.key: int(entry.value) for entry in tensor.external_data if entry.value.isdecimal()}
        for tensor in model.graph.initializer
    ]
    needed = max((place["offset"] + place["length"] for place in places if place), default=0)
    file = path.parent / SHARED_WEIGHTS
    present = file.stat().st_size if file.exists() else 0
    if present < needed:
        rng = np.random.default_rng(present)
        with file.open("ab") as stream:
            numbers = rng.standard_normal((needed - present) // 4 + 1, np.float32)
            stream.write((0.05 * numbers).tobytes())


def draw_weights(model: onnx.ModelProto, seed: int = 0) -> None:
    """Put weights into a model that leaves them to the shared file, drawn so that signals last.

    Calibration and agreement need activations that neither vanish nor grow from layer to layer.
    """
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            values = _drawn(tuple(tensor.dims), tensor.name, rng)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _drawn(shape: tuple[int, ...], name: str, rng: np.random.Generator) -> NDArray[np.floating]:
    """Normal numbers: He's deviation for weights, small for biases, about 1 for scales."""
    values = rng.standard_normal(shape, np.float32)
    if len(shape) == 1:
        return 1 + 0.1 * values if name.startswith("scale") else 0.1 * values
    fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    return values * np.float32(np.sqrt((2.0 if len(shape) > 2 else 1.0) / fan_in))
