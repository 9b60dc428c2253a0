"""Convolutional networks for images."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.networks.writer import GraphWriter


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


def fsrcnn(size: int, scale: int = 2, batch: int = 1) -> onnx.ModelProto:
    """FSRCNN (Dong et al., 2016): d = 56, s = 12, m = 4, on one channel."""
    net = GraphWriter()
    y = _prelu(net, net.conv("x", (1, 56), 5, bias=True), 56)
    y = _prelu(net, net.conv(y, (56, 12), 1, bias=True), 12)
    for _ in range(4):
        y = _prelu(net, net.conv(y, (12, 12), 3, bias=True), 12)
    y = _prelu(net, net.conv(y, (12, 56), 1, bias=True), 56)
    weights = (net.weight((56, 1, 9, 9), 0.1), net.weight((1,), 0.1, "bias"))
    y = net.add(
        "ConvTranspose", y, *weights, kernel_shape=[9, 9], strides=[scale] * 2,
        pads=[4, 4, 4, 4], output_padding=[scale - 1] * 2,
    )  # fmt: skip
    return net.image_model("x", (batch, 1, size, size), y, (batch, 1, size * scale, size * scale))


def _prelu(net: GraphWriter, x: str, channels: int) -> str:
    return net.add("PRelu", x, net.constant(np.full((channels, 1, 1), 0.25), "slope"))


def dncnn(size: int, layers: int = 17, batch: int = 1) -> onnx.ModelProto:
    """DnCNN-S (Zhang et al., 2017): convolutions of 64 channels, and what they find is noise."""
    net = GraphWriter()
    y = net.add("Relu", net.conv("x", (1, 64), 3, bias=True))
    for _ in range(layers - 2):
        y = net.add("Relu", net.conv(y, (64, 64), 3, bias=True))
    y = net.add("Sub", "x", net.conv(y, (64, 1), 3, bias=True))
    shape = (batch, 1, size, size)
    return net.image_model("x", shape, y, shape)


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
