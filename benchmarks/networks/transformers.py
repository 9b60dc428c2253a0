"""Transformers for text, images and sound."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.networks.writer import OPSET, GraphWriter


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


def llama_layer(
    width: int = 2048, inner: int = 8192, tokens: int = 128, batch: int = 1
) -> onnx.ModelProto:
    """One layer of a Llama over a whole prompt (Touvron et al., 2023), heads of 64.

    By default of Llama 3.2 1B's sizes, with as many heads of keys as of queries.
    """
    net, heads = GraphWriter(), width // 64
    cosines, sines = _rotations(net, tokens)
    ahead = np.triu(np.full((tokens, tokens), -1e9), 1)
    y = _rms_norm(net, "x", width)
    split = net.constant_ints((batch, tokens, heads, 64))
    q, k, v = (net.add("Reshape", _product(net, y, width, width), split) for _ in range(3))
    q, k, v = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, k, v))
    q, k = (_turned(net, part, cosines, sines) for part in (q, k))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.add("Mul", scores, net.scalar(0.125))
    scores = net.add("Add", scores, net.constant(ahead, "ahead"))
    y = net.add("MatMul", net.add("Softmax", scores, axis=-1), v)
    y = net.add("Transpose", y, perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.constant_ints((batch, tokens, width)))
    x = net.add("Add", "x", _product(net, y, width, width))
    y = _rms_norm(net, x, width)
    gate, up = (_product(net, y, width, inner) for _ in range(2))
    gated = net.add("Mul", net.add("Mul", gate, net.add("Sigmoid", gate)), up)
    y = net.add("Add", x, _product(net, gated, inner, width))
    sizes = (batch, tokens, width)
    graph = helper.make_graph(
        net.nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, sizes)],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _product(net: GraphWriter, x: str, inside: int, outside: int) -> str:
    return net.add("MatMul", x, net.weight((inside, outside), 0.02))


def _rms_norm(net: GraphWriter, x: str, width: int) -> str:
    mean = net.add("ReduceMean", net.add("Mul", x, x), net.constant_ints((-1,)), keepdims=1)
    root = net.add("Sqrt", net.add("Add", mean, net.scalar(1e-5)))
    return net.add("Mul", net.add("Div", x, root), net.weight((width,), 0.02, "scale"))


def _rotations(net: GraphWriter, tokens: int) -> tuple[str, str]:
    """Cosines and sines of every position, for heads of 64 (Su et al., 2021)."""
    angles = np.outer(np.arange(tokens), 10_000.0 ** (-np.arange(0, 64, 2) / 64))
    angles = np.concatenate([angles, angles], 1)
    return net.constant(np.cos(angles), "cosines"), net.constant(np.sin(angles), "sines")


def _turned(net: GraphWriter, x: str, cosines: str, sines: str) -> str:
    last, middle, end = (net.constant_ints((n,)) for n in (3, 32, 64))
    low = net.add("Slice", x, net.constant_ints((0,)), middle, last)
    high = net.add("Slice", x, middle, end, last)
    turned = net.add("Concat", net.add("Neg", high), low, axis=3)
    return net.add("Add", net.add("Mul", x, cosines), net.add("Mul", turned, sines))


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
