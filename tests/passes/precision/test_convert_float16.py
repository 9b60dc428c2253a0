"""Products on fp16 operands, where their values fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.passes import Arrays
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.precision import ConvertFloat16, Histogram, product_regions
from tests.backends.tvm.lowering.compiling import parse

_TEXT = """
    g (float[4,8] x) => (float[4,8] y) <float[8,8] first, float[8,8] second> {
        a = MatMul(x, first)
        b = Relu(a)
        y = MatMul(b, second)
    }"""


def _model(scale: float, second: float = 1.0) -> ir.Model:
    weights = {
        "first": np.eye(8, dtype=np.float32) * np.float32(scale),
        "second": np.eye(8, dtype=np.float32) * np.float32(second),
    }
    model = parse(_TEXT, constants=weights)
    fuse_pipeline().apply(model, testing.example_context())
    return model


def _precisions(model: ir.Model) -> list[ir.Precision]:
    return [region.precision for region in ir.regions(model.graph) if region.anchor is not None]


def test_operands_and_weights_are_stored_in_fp16() -> None:
    model = _model(1.0)
    assert ConvertFloat16().run(model, testing.example_context()) == 2
    assert _precisions(model) == [ir.Precision.FP16, ir.Precision.FP16]
    assert ConvertFloat16().run(model, testing.example_context()) == 0


@pytest.mark.parametrize(("scale", "expected"), [(1e5, ["fp16", "fp32"]), (10, ["fp16", "fp16"])])
def test_what_calibration_saw_exceed_the_range_stays_in_fp32(
    scale: float, expected: list[str]
) -> None:
    model = _model(60000.0)
    rows = np.full((4, 8), scale / 60000.0, np.float32)
    context = testing.example_context(calibration={"x": rows})
    ConvertFloat16().run(model, context)
    assert [precision.value for precision in _precisions(model)] == expected
    exceeded = [reason for _, reason in context.skipped if "values exceed 65504" in reason]
    assert bool(exceeded) == ("fp32" in expected)


def test_weights_beyond_the_range_stay_in_fp32() -> None:
    model = _model(1.0, second=1e5)
    context = testing.example_context()
    assert ConvertFloat16().run(model, context) == 1
    assert ("convert-float16", "its weights exceed 65504, the largest fp16") in context.skipped


@pytest.mark.parametrize(("high", "expected"), [(70000.0, 1), (60000.0, 2)])
def test_ranges_that_are_known_are_not_observed_again(high: float, expected: int) -> None:
    model = _model(1.0)
    seen = Histogram(-1.0, high, np.ones(4, np.int64))
    names = [str(value.name) for node in model.graph for value in node.outputs]
    histograms = {**dict.fromkeys(names, seen), "x": Histogram(-1.0, 1.0, np.ones(4, np.int64))}

    def run(model: ir.Model, inputs: Arrays) -> dict[str, ir.Array]:
        raise AssertionError("the model ran")

    context = replace(
        testing.example_context(calibration={"x": np.ones((4, 8), np.float32)}), run=run
    )
    regions = product_regions(model)
    assert ConvertFloat16().convert(model, regions, context, histograms) == expected
