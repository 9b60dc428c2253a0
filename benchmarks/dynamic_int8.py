"""Int8 without calibration rows: layers of BERT, dynamically quantized, beside ONNX Runtime.

    python -m benchmarks.dynamic_int8 [--layers 2] [--width 768] [--tokens 128]
    python -m benchmarks.dynamic_int8 --convolutions

The same file, written by ONNX Runtime's `quantize_dynamic`, is compiled and run by ONNX Runtime;
beside them are the float model quantized by the pass `quantize-dynamic`, and ONNX Runtime in fp32.
CPU time of one thread, medians of calls in turn. Weights are random: speed does not depend on
them. With `--convolutions`, the same of three convolutions of 3x3, with weights of bytes without a
sign, in two sizes.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

import gcompile
from benchmarks.networks import draw_weights
from benchmarks.networks.transformers import bert
from benchmarks.networks.writer import OPSET, GraphWriter
from benchmarks.timing import interleave, machine
from gcompile import ir

_PASSES = "canonicalize,quantize-dynamic"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--convolutions", action="store_true")
    arguments = parser.parse_args()
    print(f"{machine()}, one thread")
    if arguments.convolutions:
        for channels, size in ((64, 56), (256, 14)):
            _compare_convolutions(channels, size, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, quantized = folder / "plain.onnx", folder / "quantized.onnx"
        model = bert(arguments.layers, arguments.width, arguments.tokens)
        draw_weights(model)
        onnx.save(model, plain)
        quantize_dynamic(plain, quantized)
        inputs = _inputs(plain)
        runners = {
            "gcompile, of quantize_dynamic's file": _compiled(quantized, folder / "a"),
            "gcompile, pass quantize-dynamic": _compiled(plain, folder / "b", _PASSES),
        }
        sessions = {"ONNX Runtime int8": _session(quantized), "ONNX Runtime fp32": _session(plain)}
        calls = {key: partial(runner.run, inputs) for key, runner in runners.items()}
        calls |= {key: partial(session.run, None, inputs) for key, session in sessions.items()}
        for key, samples in interleave(calls, arguments.rounds).items():
            print(f"{key:40} {samples.cpu_median_s * 1e3:8.2f} ms")


def _compare_convolutions(channels: int, size: int, rounds: int) -> None:
    print(f"three convolutions of {channels} channels, {size} by {size} pixels")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, quantized = folder / "plain.onnx", folder / "quantized.onnx"
        onnx.save(_convolutions(channels, size), plain)
        quantize_dynamic(plain, quantized, weight_type=QuantType.QUInt8)
        inputs = _inputs(plain)
        calls = {
            "gcompile int8": partial(_compiled(quantized, folder / "a").run, inputs),
            "gcompile fp32": partial(_compiled(plain, folder / "b").run, inputs),
            "ONNX Runtime int8": partial(_session(quantized).run, None, inputs),
            "ONNX Runtime fp32": partial(_session(plain).run, None, inputs),
        }
        for key, samples in interleave(calls, rounds).items():
            print(f"{key:40} {samples.cpu_median_s * 1e3:8.2f} ms")


def _convolutions(channels: int, size: int, layers: int = 3) -> onnx.ModelProto:
    net, y = GraphWriter(), "x"
    for _ in range(layers):
        weight = net.weight((channels, channels, 3, 3), 0.02)
        bias = net.weight((channels,), 0.02, "bias")
        y = net.add("Relu", net.add("Conv", y, weight, bias, pads=[1, 1, 1, 1]))
    shape = (1, channels, size, size)
    graph = onnx.helper.make_graph(
        net.nodes,
        "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, shape)],
        net.weights,
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    draw_weights(model)
    return model


def _inputs(path: Path) -> dict[str, ir.Array]:
    rng = np.random.default_rng(0)
    return {
        str(value.name): rng.standard_normal(ir.static_shape(value)).astype(np.float32)
        if value.dtype is ir.DataType.FLOAT
        else rng.integers(0, 2, ir.static_shape(value))
        for value in ir.load(path).graph.inputs
    }


def _compiled(path: Path, folder: Path, passes: str | None = None) -> gcompile.runtime.Runner:
    gcompile.compile(path, passes=passes, output=folder)
    return gcompile.runtime.load(folder)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
