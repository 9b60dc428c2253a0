"""Network architectures with random weights, for questions about speed and energy.

With a generator, weights are drawn and stored in the model; batch normalization of ResNet-18 is
written as it stands in the paper, because folding it is part of what is measured. Without one,
weights are windows of one file of random numbers that all models of a folder share (`save`), so
that a hundred networks take as little room and time as their largest tensor; these networks are
written as they are deployed, with batch normalization folded.
"""

from __future__ import annotations

import re
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
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, (shape[0], classes))],
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


def network(name: str, batch: int = 1) -> onnx.ModelProto:
    """Return an architecture by name, weights in the shared file.

    Args:
        name: `mobilenet-v1-0.25-128`, `mobilenet-v2-1.4-224`, `efficientnet-lite0`, `resnet50`,
            `bert-base-128`, `bert-large-384`, `squeezenet`, `vit-tiny`, `audio-transformer`;
            `gemm-M-K-N`, `conv-SIZE-IN-OUT-KERNEL-STRIDE` and `depthwise-SIZE-CHANNELS-KERNEL` are
            single layers. `-quantized` and `-non-quantized` are ignored.
        batch: Samples of one inference.
    """
    plain = re.sub(r"-(non-)?quantized$", "", name)
    match plain.split("-"):
        case ["mobilenet", "v1", width, size]:
            return mobilenet_v1(float(width), int(size), batch)
        case ["mobilenet", "v2", width, size]:
            return mobilenet_v2(float(width), int(size), batch)
        case ["efficientnet", lite]:
            return efficientnet_lite(int(lite.removeprefix("lite")), batch)
        case ["resnet50"]:
            return resnet50(batch)
        case ["bert", "base", tokens]:
            return bert(12, 768, int(tokens), batch)
        case ["bert", "large", tokens]:
            return bert(24, 1024, int(tokens), batch)
        case ["squeezenet"]:
            return squeezenet(batch)
        case ["vit", "tiny"]:
            return vision_transformer(12, 192, batch)
        case ["audio", "transformer"]:
            return audio_transformer(3, 256, batch)
        case ["gemm" | "conv" | "depthwise" as kind, *sizes]:
            return single_layer(kind, *(int(size) for size in sizes), batch=batch)
    raise ValueError(f"No network is called {name!r}.")


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


def resnet50(batch: int = 1, size: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """ResNet-50 (He et al., 2016), strides in the 3×3 convolutions as MLPerf runs it."""
    net = GraphWriter()
    y = net.add("Relu", net.conv("x", (3, 64), 7, 2, bias=True))
    y = net.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inside = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = _bottleneck(net, y, inside, 64 * 2**stage, stride)
            inside = 256 * 2**stage
    y = net.add("Flatten", net.add("GlobalAveragePool", y))
    return net.model("x", (batch, 3, size, size), net.linear(y, (2048, classes)), classes)


def _bottleneck(net: GraphWriter, x: str, inside: int, middle: int, stride: int) -> str:
    y = net.add("Relu", net.conv(x, (inside, middle), 1, bias=True))
    y = net.add("Relu", net.conv(y, (middle, middle), 3, stride, bias=True))
    y = net.conv(y, (middle, 4 * middle), 1, bias=True)
    if inside != 4 * middle:
        x = net.conv(x, (inside, 4 * middle), 1, stride, bias=True)
    return net.add("Relu", net.add("Add", y, x))


def mobilenet_v1(width: float, size: int, batch: int = 1, classes: int = 1001) -> onnx.ModelProto:
    """MobileNet v1 (Howard et al., 2017, table 1); channels are int(c · width), at least 8."""
    net = GraphWriter()
    inside = _at_least_8(32 * width)
    y = net.relu6(net.conv("x", (3, inside), 3, 2, bias=True))
    for c, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
        (1024, 1),
    ):  # fmt: skip
        outside = _at_least_8(c * width)
        y = net.relu6(net.conv(y, (inside, inside), 3, stride, inside, bias=True))
        y = net.relu6(net.conv(y, (inside, outside), 1, bias=True))
        inside = outside
    return _classify(net, y, inside, (batch, 3, size, size), classes)


def mobilenet_v2(width: float, size: int, batch: int = 1, classes: int = 1001) -> onnx.ModelProto:
    """MobileNet v2 (Sandler et al., 2018, table 2); channels are rounded to multiples of 8."""
    net = GraphWriter()
    inside = _divisible(32 * width)
    y = net.relu6(net.conv("x", (3, inside), 3, 2, bias=True))
    for expansion, c, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        outside = _divisible(c * width)
        for repeat in range(repeats):
            step = 1 if repeat else stride
            y = _inverted_residual(net, y, (inside, outside), expansion, 3, step)
            inside = outside
    last = _divisible(1280 * max(width, 1.0))
    y = net.relu6(net.conv(y, (inside, last), 1, bias=True))
    return _classify(net, y, last, (batch, 3, size, size), classes)


_LITE = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))


def efficientnet_lite(variant: int, batch: int = 1, classes: int = 1000) -> onnx.ModelProto:
    """EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excitation, with relu6."""
    net = GraphWriter()
    width, depth, size = _LITE[variant]
    inside = 32
    y = net.relu6(net.conv("x", (3, inside), 3, 2, bias=True))
    stages = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    )  # fmt: skip
    for index, (expansion, c, repeats, stride, kernel) in enumerate(stages):
        outside = _divisible(c * width)
        is_fixed = index in (0, len(stages) - 1)
        for repeat in range(repeats if is_fixed else int(np.ceil(repeats * depth))):
            step = 1 if repeat else stride
            y = _inverted_residual(net, y, (inside, outside), expansion, kernel, step)
            inside = outside
    y = net.relu6(net.conv(y, (inside, 1280), 1, bias=True))
    return _classify(net, y, 1280, (batch, 3, size, size), classes)


def _inverted_residual(
    net: GraphWriter, x: str, channels: tuple[int, int], expansion: int, kernel: int, stride: int
) -> str:
    inside, outside = channels
    middle, y = inside * expansion, x
    if expansion > 1:
        y = net.relu6(net.conv(y, (inside, middle), 1, bias=True))
    y = net.relu6(net.conv(y, (middle, middle), kernel, stride, middle, bias=True))
    y = net.conv(y, (middle, outside), 1, bias=True)
    return net.add("Add", x, y) if stride == 1 and inside == outside else y


def _classify(
    net: GraphWriter, y: str, channels: int, shape: tuple[int, ...], classes: int
) -> onnx.ModelProto:
    y = net.add("Flatten", net.add("GlobalAveragePool", y))
    y = net.add("Softmax", net.linear(y, (channels, classes)))
    return net.model("x", shape, y, classes)


def _at_least_8(channels: float) -> int:
    return max(int(channels), 8)


def _divisible(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def bert(layers: int, width: int, tokens: int, batch: int = 1) -> onnx.ModelProto:
    """BERT's encoder with the question-answering head of MLPerf (Devlin et al., 2019)."""
    net = GraphWriter()
    words = net.weight((30522, width), 0.02, "words")
    y = net.add("Gather", words, "ids")
    y = _layer_norm(net, net.add("Add", y, net.weight((1, tokens, width), 0.02)), width)
    for _ in range(layers):
        attended = _attention(net, y, width, (batch, tokens))
        y = _layer_norm(net, net.add("Add", y, attended), width)
        hidden = net.add("Gelu", _dense(net, y, width, 4 * width))
        y = _layer_norm(net, net.add("Add", y, _dense(net, hidden, 4 * width, width)), width)
    y = _dense(net, y, width, 2)
    graph = helper.make_graph(
        net.nodes,
        "network",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, (batch, tokens))],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, (batch, tokens, 2))],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _attention(net: GraphWriter, x: str, width: int, sizes: tuple[int, int]) -> str:
    heads = width // 64
    split = net.constant_ints((*sizes, heads, 64))
    q, k, v = (net.add("Reshape", _dense(net, x, width, width), split) for _ in range(3))
    q = net.add("Transpose", q, perm=[0, 2, 1, 3])
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 3, 1]))
    weights = net.add("Softmax", net.add("Mul", scores, net.scalar(0.125)), axis=-1)
    y = net.add("MatMul", weights, net.add("Transpose", v, perm=[0, 2, 1, 3]))
    y = net.add("Transpose", y, perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.constant_ints((*sizes, width)))
    return _dense(net, y, width, width)


def _dense(net: GraphWriter, x: str, inside: int, outside: int) -> str:
    product = net.add("MatMul", x, net.weight((inside, outside), 0.02))
    return net.add("Add", product, net.weight((outside,), 0.02, "bias"))


def _layer_norm(net: GraphWriter, x: str, width: int) -> str:
    scale, shift = net.weight((width,), 0.02, "scale"), net.weight((width,), 0.02, "shift")
    return net.add("LayerNormalization", x, scale, shift)


def squeezenet(batch: int = 1, classes: int = 1000) -> onnx.ModelProto:
    """SqueezeNet 1.1 (Iandola et al., 2016)."""
    net = GraphWriter()
    y = net.add("Relu", net.conv("x", (3, 64), 3, 2, bias=True))
    inside = 64
    for squeeze, expand, is_pooled in (
        (16, 64, True), (16, 64, False), (32, 128, True), (32, 128, False), (48, 192, True),
        (48, 192, False), (64, 256, False), (64, 256, False),
    ):  # fmt: skip
        if is_pooled:
            y = net.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        y = net.add("Relu", net.conv(y, (inside, squeeze), 1, bias=True))
        parts = [
            net.add("Relu", net.conv(y, (squeeze, expand), kernel, bias=True)) for kernel in (1, 3)
        ]
        y, inside = net.add("Concat", *parts, axis=1), 2 * expand
    y = net.add("Relu", net.conv(y, (inside, classes), 1, bias=True))
    y = net.add("Softmax", net.add("Flatten", net.add("GlobalAveragePool", y)))
    return net.model("x", (batch, 3, 224, 224), y, classes)


def vision_transformer(
    layers: int, width: int, batch: int = 1, classes: int = 1000
) -> onnx.ModelProto:
    """ViT on 224 by 224 pixels in 196 patches (Dosovitskiy et al., 2021); tiny has 12, 192."""
    net = GraphWriter()
    y = net.add(
        "Conv", "x", net.weight((width, 3, 16, 16), 0.02), net.weight((width,), 0.02, "bias"),
        kernel_shape=[16, 16], strides=[16, 16],
    )  # fmt: skip
    y = net.add("Reshape", y, net.constant_ints((batch, width, 196)))
    y = net.add("Transpose", y, perm=[0, 2, 1])
    y = net.add("Concat", net.weight((batch, 1, width), 0.02), y, axis=1)
    y = net.add("Add", y, net.weight((1, 197, width), 0.02))
    y = _layer_norm(net, _encoder(net, y, layers, width, (batch, 197)), width)
    first = net.constant_ints((0,))
    token = net.add("Squeeze", net.add("Gather", y, first, axis=1), net.constant_ints((1,)))
    return net.model("x", (batch, 3, 224, 224), net.linear(token, (width, classes)), classes)


def audio_transformer(
    layers: int, width: int, batch: int = 1, frames: int = 300, classes: int = 35
) -> onnx.ModelProto:
    """Two convolutions over 80 mel bands, as Whisper begins, an encoder, and a classifier."""
    net = GraphWriter()
    y = "x"
    for inside, stride in ((80, 1), (width, 2)):
        y = net.add(
            "Conv", y, net.weight((width, inside, 3), 0.02), net.weight((width,), 0.02, "bias"),
            kernel_shape=[3], strides=[stride], pads=[1, 1],
        )  # fmt: skip
        y = net.add("Gelu", y)
    tokens = frames // 2
    y = net.add("Transpose", y, perm=[0, 2, 1])
    y = net.add("Add", y, net.weight((1, tokens, width), 0.02))
    y = _layer_norm(net, _encoder(net, y, layers, width, (batch, tokens)), width)
    y = net.add("ReduceMean", y, net.constant_ints((1,)), keepdims=0)
    return net.model("x", (batch, 80, frames), net.linear(y, (width, classes)), classes)


def _encoder(net: GraphWriter, y: str, layers: int, width: int, sizes: tuple[int, int]) -> str:
    """Transformer layers that normalize before attention and before the feed-forward part."""
    for _ in range(layers):
        y = net.add("Add", y, _attention(net, _layer_norm(net, y, width), width, sizes))
        hidden = net.add("Gelu", _dense(net, _layer_norm(net, y, width), width, 4 * width))
        y = net.add("Add", y, _dense(net, hidden, 4 * width, width))
    return y


def single_layer(kind: str, *sizes: int, batch: int = 1) -> onnx.ModelProto:
    """One layer: `gemm` M K N, `conv` size in out kernel stride, `depthwise` size c kernel."""
    net = GraphWriter()
    if kind == "gemm":
        m, k, n = sizes
        return _single(net, (m, k), net.add("MatMul", "x", net.weight((k, n), 0.02)), (m, n))
    if kind == "conv":
        size, inside, outside, kernel, stride = sizes
        y = net.conv("x", (inside, outside), kernel, stride, bias=True)
    else:
        size, inside, kernel = sizes
        outside, stride = inside, 1
        y = net.conv("x", (inside, inside), kernel, groups=inside, bias=True)
    shape = (batch, outside, (size - 1) // stride + 1, (size - 1) // stride + 1)
    return _single(net, (batch, inside, size, size), y, shape)


def _single(
    net: GraphWriter, shape: tuple[int, ...], y: str, out_shape: tuple[int, ...]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        net.nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, out_shape)],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
