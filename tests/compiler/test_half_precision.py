"""fp16 on CPUs: asked for, and in searches where it costs no more than bf16."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.compiler.job import prepare
from tests.backends.tvm.lowering.compiling import calibration_rows, parse

_LAYERS = """
    g (float[1,16,12,12] x) => (float[1,10] y)
    <float[24,16,3,3] first, float[24,24,3,3] second, float[24,10] last> {
        a = Conv<pads = [1,1,1,1]>(x, first)
        b = Relu(a)
        c = Conv<pads = [1,1,1,1], strides = [2,2]>(b, second)
        p = GlobalAveragePool(c)
        f = Flatten(p)
        y = MatMul(f, last)
    }"""

_READS = """
    g (float[1,2048] x) => (float[1,1024] y)
    <float[2048,1024] first, float[1024,1024] second, float[1024,1024] last> {
        a = MatMul(x, first)
        b = Relu(a)
        c = MatMul(b, second)
        d = Relu(c)
        y = MatMul(d, last)
    }"""
"""One row: what it takes is reading the weights."""


@pytest.mark.parametrize(
    ("target", "is_searched"),
    [("generic-x86-avx2", True), ("generic-x86-avx512", True), ("amd-epyc-9654", False)],
)
def test_a_search_considers_fp16_where_it_costs_no_more_than_bf16(
    target: str, is_searched: bool
) -> None:
    model = parse(_LAYERS)
    job = prepare(model, target, calib=calibration_rows(model))
    assert (ir.Precision.FP16 in job.candidates) == is_searched
    assert ir.Precision.FP16 not in prepare(model, target).candidates


def test_a_search_takes_fp16_rather_than_bf16_of_the_same_price() -> None:
    model = parse(_READS)
    rows = calibration_rows(model)
    built = gcompile.compile(model, "generic-x86-avx512", budget="-30%", calib=rows)
    found = {region.precision for region in ir.regions(built.model.graph)}
    assert ir.Precision.FP16 in found
    assert ir.Precision.BF16 not in found


def test_a_build_in_fp16_is_eight_times_as_close_as_one_in_bf16() -> None:
    model = parse(_LAYERS)
    inputs = testing.example_inputs(model, 0)
    expected = OnnxRuntime()(model, inputs)["y"].astype(np.float64)
    errors = {}
    for precision in ("fp16", "bf16"):
        built = gcompile.compile(model, "generic-x86-avx2", precision=precision)
        found = built.artifact.run(inputs)["y"].astype(np.float64)
        errors[precision] = np.abs(found - expected).max()
    assert errors["fp16"] < 2.0**-10 * np.abs(expected).max()
    assert errors["fp16"] < errors["bf16"] / 4


def test_the_report_says_why_a_product_keeps_fp32() -> None:
    model = parse("""
        g (float[1,8,6,6] x) => (float[1,8,6,6] y)
        <float[8,8,1,1] first, float[8,1,3,3] second> {
            a = Conv(x, first)
            y = Conv<group = 8, pads = [1,1,1,1]>(a, second)
        }""")
    report = gcompile.compile(model, "generic-x86-avx2", precision="fp16").report
    assert [layer.precision for layer in report.layers if "Conv" in layer.op] == ["fp16", "fp32"]
    assert any("fp32 stays in 1 of 2" in note and "depthwise" in note for note in report.notes)
