"""Code that is not run: products are on tensor cores, and no kernel keeps registers in memory."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.cuda_static import Static, code_of, static_figures
from benchmarks.networks import GraphWriter, draw_weights
from benchmarks.networks.transformers import bert
from benchmarks.networks.writer import OPSET
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc


def _static(model: onnx.ModelProto, folder: Path, target: str, precision: str) -> Static:
    draw_weights(model)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return static_figures(code_of(path, target, precision))


def as_model(
    net: GraphWriter, x: tuple[int, ...], y: str, shape: tuple[int, ...]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        net.nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _bottleneck() -> onnx.ModelProto:
    """The first block of ResNet-50's third stage: four convolutions, one of them beside."""
    net = GraphWriter()
    y = net.add("Relu", net.conv("x", (256, 128), 1, bias=True))
    y = net.add("Relu", net.conv(y, (128, 128), 3, 2, bias=True))
    y = net.conv(y, (128, 512), 1, bias=True)
    y = net.add("Relu", net.add("Add", y, net.conv("x", (256, 512), 1, 2, bias=True)))
    return as_model(net, (1, 256, 56, 56), y, (1, 512, 28, 28))


def _inverted_bottleneck() -> onnx.ModelProto:
    """A block of MobileNetV2: two products, and a depthwise convolution between them."""
    net = GraphWriter()
    y = net.add("Relu", net.conv("x", (32, 192), 1, bias=True))
    y = net.add("Relu", net.conv(y, (192, 192), 3, groups=192, bias=True))
    y = net.add("Add", "x", net.conv(y, (192, 32), 1, bias=True))
    return as_model(net, (1, 32, 28, 28), y, (1, 32, 28, 28))


@pytest.mark.parametrize(
    ("target", "precision"), [("nvidia-a100-sxm-80", "int8"), ("nvidia-h100-sxm", "bf16")]
)
def test_convolutions_of_resnet_50_are_on_tensor_cores(
    target: str, precision: str, tmp_path: Path
) -> None:
    found = _static(_bottleneck(), tmp_path, target, precision)
    assert found.without == {}
    assert found.spilling == ()
    assert found.tensor_launches == 4


def test_products_of_mobilenet_v2_are_on_tensor_cores(tmp_path: Path) -> None:
    found = _static(_inverted_bottleneck(), tmp_path, "nvidia-l4", "int8")
    assert found.without == {}
    assert found.spilling == ()
    assert found.tensor_launches == 2


@pytest.mark.parametrize(
    ("target", "precision", "width"),
    [("nvidia-a100-sxm-80", "bf16", 768), ("nvidia-h100-sxm", "int8", 256)],
)
def test_products_of_bert_are_on_tensor_cores(
    target: str, precision: str, width: int, tmp_path: Path
) -> None:
    """One layer: four projections, attention, and the two of the feed-forward part."""
    found = _static(bert(1, width, 128), tmp_path, target, precision)
    assert set(found.without.values()) <= {"it is too small for tensor cores"}  # Two columns.
    assert found.spilling == ()
    assert found.tensor_launches == 7


@pytest.mark.parametrize("target", ["nvidia-a100-sxm-80", "nvidia-l4", "nvidia-h100-sxm"])
def test_tiles_in_fp32_have_registers_for_their_sums(target: str, tmp_path: Path) -> None:
    net = GraphWriter()
    y = net.add("Conv", "x", net.weight((512, 256, 5), 0.02), kernel_shape=[5])
    found = _static(as_model(net, (1, 256, 512), y, (1, 512, 508)), tmp_path, target, "fp32")
    assert found.spilling == ()
