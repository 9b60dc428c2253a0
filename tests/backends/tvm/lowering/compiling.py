"""Compile a small model from its text, run it, and hold it against ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from onnx import parser

import gcompile
from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.report import Report
from gcompile.search import cosine
from gcompile.targets import Target

TOLERANCE = 2e-5
"""Sums are taken in another order than the reference takes them."""

_HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
CHECKED_SEEDS = range(1, 4)
_CALIBRATION_ROWS = 8
_LEAST_COSINE = 0.998


@dataclass(frozen=True)
class Built:
    """What came of a compilation.

    Attributes:
        inputs: What the compiled code was run on last.
        outputs: What it gave.
    """

    model: ir.Model
    report: Report
    inputs: dict[str, ir.Array]
    outputs: dict[str, ir.Array]

    @property
    def reasons(self) -> list[str]:
        """Why each region without a kernel of ours has none."""
        return list(self.report.fallbacks.values())


def parse(text: str, seed: int = 0, constants: Mapping[str, ir.Array] | None = None) -> ir.Model:
    """Read a graph; constants declared without numbers are given or drawn."""
    proto = parser.parse_model(_HEADER + text)
    made = {name for node in proto.graph.node for name in node.output}
    rng, given = np.random.default_rng(seed), constants or {}
    for info in proto.graph.value_info:
        if info.name not in made:
            array = given.get(info.name, _drawn(info, rng))
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    return ir.prepare(onnx_ir.from_proto(proto))


def check(
    text: str | ir.Model,
    precision: str | None = None,
    *,
    target: str | Target = "cpu",
    threads: int = 1,
    tolerance: float = TOLERANCE,
) -> Built:
    """Compile, run on several inputs, and compare.

    In the precision of the model the outputs are compared with the model as given. In a narrow
    one they are compared with what the reference makes of the converted graph, and must still
    point where those of the model as given point.
    """
    model = text if isinstance(text, ir.Model) else parse(text)
    calib = calibration_rows(model) if precision == "int8" else None
    reference = OnnxRuntime()
    with tempfile.TemporaryDirectory() as folder:
        built = gcompile.compile(
            model, target, precision=precision, calib=calib, threads=threads,
            output=Path(folder) / "out",
        )  # fmt: skip
        for seed in CHECKED_SEEDS:
            inputs = testing.example_inputs(model, seed)
            outputs = built.artifact.run(inputs)
            given = reference(model, inputs)
            if precision is None:
                testing.assert_close(given, outputs, tolerance)
            else:
                converted = reference(built.model, inputs)
                testing.assert_close(converted, outputs, testing.NARROW_TOLERANCE)
                assert cosine(given, outputs) > _LEAST_COSINE
    return Built(built.model, built.report, inputs, outputs)


def calibration_rows(model: ir.Model, rows: int = _CALIBRATION_ROWS) -> dict[str, ir.Array]:
    """The inputs that are checked and more of their kind; scalars are the same for all rows."""
    drawn = [testing.example_inputs(model, seed) for seed in range(1, 1 + rows)]
    return {
        name: np.concatenate([row[name] for row in drawn]) if array.ndim else array
        for name, array in drawn[0].items()
    }


def operators(model: ir.Model) -> list[str]:
    """What the regions of the compiled graph do."""
    return [region.op for region in ir.regions(model.graph)]


def _drawn(info: onnx.ValueInfoProto, rng: np.random.Generator) -> ir.Array:
    """Normal numbers, smaller where more of them are added up; integers of the type's range."""
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -100, 100, shape).astype(dtype)
    depth = np.prod(shape[1:]) if len(shape) > 2 else shape[0] if len(shape) == 2 else 1
    return np.asarray(rng.standard_normal(shape) / np.sqrt(depth)).astype(dtype)
