"""Network architectures with seeded random weights, for questions about speed and energy.

Batch normalization is written as it stands in the papers: folding it is part of what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 21


@dataclass
class GraphWriter:
    """Writes a convolutional network node by node; activations are NCHW."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, array: NDArray[np.floating], hint: str) -> str:
        """Add a weight and return its name."""
        name = f"{hint}_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Add a node with one output and return the output's name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution with same padding and He-initialized weights."""
        inside, outside = channels
        shape = (outside, inside // groups, kernel, kernel)
        deviation = np.sqrt(2.0 / np.prod(shape[1:]))
        weight = self.constant(self.rng.normal(0, deviation, shape), "weight")
        pad = kernel // 2
        return self.add(
            "Conv", x, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            group=groups,
        )  # fmt: skip

    def batch_norm(self, x: str, channels: int) -> str:
        """Batch normalization with plausible statistics."""
        parameters = [
            self.rng.uniform(0.8, 1.2, channels),
            self.rng.normal(0, 0.1, channels),
            self.rng.normal(0, 0.1, channels),
            self.rng.uniform(0.8, 1.2, channels),
        ]
        names = [self.constant(values, "norm") for values in parameters]
        return self.add("BatchNormalization", x, *names)

    def linear(self, x: str, features: tuple[int, int]) -> str:
        """A fully connected layer."""
        inside, outside = features
        weight = self.rng.normal(0, 1 / np.sqrt(inside), (outside, inside))
        bias = self.constant(self.rng.normal(0, 0.01, outside), "bias")
        return self.add("Gemm", x, self.constant(weight, "weight"), bias, transB=1)

    def model(self, x: str, shape: tuple[int, ...], y: str, classes: int) -> onnx.ModelProto:
        """Finish the model: one input `x` of `shape`, one output of `classes` logits."""
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, (shape[0], classes))],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def resnet18(
    batch: int = 1, size: int = 224, classes: int = 1000, seed: int = 0
) -> onnx.ModelProto:
    """ResNet-18 (He et al., 2016, table 1)."""
    net = GraphWriter(np.random.default_rng(seed))
    y = net.add("Relu", net.batch_norm(net.conv("x", (3, 64), 7, 2), 64))
    y = net.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inside = 64
    for outside in (64, 64, 128, 128, 256, 256, 512, 512):
        y = _basic_block(net, y, inside, outside, stride=1 if outside == inside else 2)
        inside = outside
    y = net.add("Flatten", net.add("GlobalAveragePool", y))
    return net.model("x", (batch, 3, size, size), net.linear(y, (512, classes)), classes)


def _basic_block(net: GraphWriter, x: str, inside: int, outside: int, stride: int) -> str:
    y = net.batch_norm(net.conv(x, (inside, outside), 3, stride), outside)
    y = net.conv(net.add("Relu", y), (outside, outside), 3)
    y = net.batch_norm(y, outside)
    if stride != 1 or inside != outside:
        x = net.batch_norm(net.conv(x, (inside, outside), 1, stride), outside)
    return net.add("Relu", net.add("Add", y, x))
