from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.precision.quantize_dynamic import QuantizeDynamic
from tests.backends.tvm.lowering.compiling import parse
from tests.passes.precision.models import rows_for

TWO_READERS = """
    g (float[1,6,32] x) => (float[1,6,8] y) <float[32,8] w, float[8,32] v, float[8] b> {
        m = MatMul(x, w)
        k = Reshape(x, six)
        n = Gemm<transB = 1>(k, v, b)
        o = Reshape(n, whole)
        l = MatMul(x, w)
        s = Add(m, l)
        y = Add(s, o)
    }""".replace("float[8] b>", "float[8] b, int64[2] six = {6, 32}, int64[3] whole = {1, 6, 8}>")


def test_products_are_integers_and_a_value_is_quantized_once() -> None:
    model = parse(TWO_READERS)
    rows = rows_for(model, 1)
    want = OnnxRuntime()(model, rows)["y"].astype(np.float64)
    assert QuantizeDynamic().apply(model, testing.example_context()).changed == 3
    ir.verify(model)
    got = OnnxRuntime()(model, rows)["y"].astype(np.float64)
    assert 0 < np.abs(got - want).max() < 0.03 * np.abs(want).max()
    FuseRegions().apply(model, testing.example_context())
    found = ir.regions(model.graph)
    assert [r.op for r in found].count("DynamicQuantizeLinear") == 2
    assert {r.precision for r in found if r.anchor is not None} == {ir.Precision.INT8}


def test_it_runs_once() -> None:
    model, ctx = parse(TWO_READERS), testing.example_context()
    QuantizeDynamic().apply(model, ctx)
    record = QuantizeDynamic().apply(model, ctx)
    assert record.changed == 0
    assert dict(record.skipped) == {"its right operand is computed": 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "g (float[4,3] x, float[3,2] w) => (float[4,2] y) { y = MatMul(x, w) }",
            "its right operand is computed",
        ),
        (
            "g (float[3] x) => (float[2] y) <float[3,2] w> { y = MatMul(x, w) }",
            "an operand is no matrix",
        ),
        (
            "g (float[3,4] x) => (float[4,2] y) <float[3,2] w> { y = Gemm<transA = 1>(x, w) }",
            "its first operand is transposed",
        ),
    ],
)
def test_what_is_not_quantized_says_why(text: str, reason: str) -> None:
    record = QuantizeDynamic().apply(parse(text), testing.example_context())
    assert record.changed == 0
    assert dict(record.skipped) == {reason: 1}
