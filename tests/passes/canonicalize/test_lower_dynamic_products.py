"""What dynamic quantization writes becomes products between their conversions."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.passes.canonicalize.lower_dynamic_products import LowerDynamicProducts
from gcompile.passes.pipelines import exact_pipeline
from tests.backends.tvm.lowering.compiling import parse

PRODUCT = """
    g (float[2,5,20] x) => (float[2,5,10] y)
    <int8[20,10] w, SCALE ws, int8 wz = {ZERO}, float[10] b, float c = {0.5}> {
        q, s, z = DynamicQuantizeLinear(x)
        sums = MatMulInteger(q, w, z, wz)
        reals = Cast<to = 1>(sums)
        both = Mul(FACTOR, ws)
        scaled = Mul(reals, both)
        biased = Add(scaled, b)
        y = Relu(biased)
    }"""


def model(scale: str = "float", zero: str = "0", factor: str = "s") -> ir.Model:
    text = PRODUCT.replace("SCALE", scale).replace("ZERO", zero).replace("FACTOR", factor)
    return parse(text, constants={"ws": np.full(10 if "[" in scale else (), 0.01, np.float32)})


@pytest.mark.parametrize("scale", ["float", "float[10]"])
def test_one_region_holds_the_product_and_what_follows(scale: str) -> None:
    quantized = model(scale)
    testing.check_pass(LowerDynamicProducts(), quantized.clone())
    exact_pipeline().apply(quantized, testing.example_context())
    quantize, product = ir.regions(quantized.graph)
    assert quantize.op == "DynamicQuantizeLinear"
    assert product.op == "MatMul+Add+Relu"
    assert product.precision is ir.Precision.INT8


@pytest.mark.parametrize(
    ("quantized", "reasons"),
    [
        (model(zero="3"), ["the weight has a zero point"]),
        (model(factor="c"), []),
    ],
)
def test_other_products_stay_as_they_are(quantized: ir.Model, reasons: list[str]) -> None:
    record = LowerDynamicProducts().apply(quantized, testing.example_context())
    assert record.changed == 0
    assert list(record.skipped) == reasons
