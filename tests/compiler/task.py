"""A small task: a network, rows to calibrate on, and labels that the float network gets right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_ir
from onnx import parser

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from tests.backends.tvm.lowering.compiling import parse

NETWORK = """
    g (float[1,4,12,12] x) => (float[1,5] y)
    <float[32,4,3,3] w1, float[32] b1, float[32,32,3,3] w2, float[32,5] w3> {
        c1 = Conv<pads = [1,1,1,1]>(x, w1, b1)
        r1 = Relu(c1)
        c2 = Conv<pads = [1,1,1,1]>(r1, w2)
        r2 = Relu(c2)
        p = GlobalAveragePool(r2)
        f = Flatten(p)
        y = Gemm(f, w3)
    }"""


@dataclass(frozen=True)
class Task:
    """What a user brings."""

    model: ir.Model
    calib: dict[str, ir.Array]
    evaluate: dict[str, ir.Array]


@cache
def task() -> Task:
    """Made once; nothing may change it."""
    model = parse(NETWORK)
    rng = np.random.default_rng(0)
    calib = rng.standard_normal((16, 4, 12, 12)).astype(np.float32)
    rows = rng.standard_normal((48, 4, 12, 12)).astype(np.float32)
    labels = OnnxRuntime()(model, {"x": rows})["y"].argmax(axis=1)
    return Task(model, {"x": calib}, {"x": rows, "labels": labels})


def free(text: str) -> ir.Model:
    """A model that is not ready yet: its leading dimension is free, its weights are drawn."""
    proto = parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    model: ir.Model = onnx_ir.from_proto(proto)
    return model


def closeness(outputs: dict[str, ir.Array], labels: ir.Array) -> float:
    """A metric of a user: 1 where all outputs are what the labels say, less the further away."""
    distance = np.abs(outputs["y"].astype(np.float64) - labels.astype(np.float64))
    return 1.0 - float(distance.max())


def with_outputs_as_labels(given: Task) -> dict[str, ir.Array]:
    """Evaluation rows for `closeness`."""
    rows = given.evaluate["x"]
    return {"x": rows, "labels": OnnxRuntime()(given.model, {"x": rows})["y"]}
