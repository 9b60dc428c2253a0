"""Networks of one layer."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from benchmarks.networks.writer import OPSET, GraphWriter


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
