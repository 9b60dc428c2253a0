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


@pytest.mark.parametrize("scale", ["float", "float[10]"])
@pytest.mark.parametrize("zero", [3, 119, 128])
def test_zero_points_of_weights_are_made_up_for_by_sums_of_rows(scale: str, zero: int) -> None:
    text = PRODUCT.replace("SCALE", scale).replace("ZERO", str(zero)).replace("FACTOR", "s")
    unsigned = text.replace("int8[20,10] w", "uint8[20,10] w").replace("int8 wz", "uint8 wz")
    rng = np.random.default_rng(0)
    constants: dict[str, ir.Array] = {
        "ws": np.full(10 if "[" in scale else (), 0.01, np.float32),
        "w": rng.integers(0, 256, (20, 10)).astype(np.uint8),
    }
    quantized = parse(unsigned, constants=constants)
    record = testing.check_pass(LowerDynamicProducts(), quantized)
    assert record.changed == 1
    operators = [node.op_type for node in quantized.graph]
    assert ("ReduceSum" in operators) == (zero != 128)
    assert "MatMul" in operators


def test_zero_points_of_signed_weights_are_made_up_for_as_well() -> None:
    record = testing.check_pass(LowerDynamicProducts(), model(zero="3"))
    assert record.changed == 1


def test_other_products_stay_as_they_are() -> None:
    record = LowerDynamicProducts().apply(model(factor="c"), testing.example_context())
    assert record.changed == 0
    assert not record.skipped
