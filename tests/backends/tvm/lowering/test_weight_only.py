"""Products of floats with weights that are stored as integers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends.tvm.lowering.compiling import check, operators, parse
from tests.ir.weight_only import weight_only

MODELS = {
    "one row": ((1, 64, 40), "int4", 32, {}),
    "few rows, blocks cut short": ((3, 101, 33), "uint4", 16, {"zero_points": True}),
    "unsigned around zero": ((2, 40, 20), "uint8", 0, {}),
    "more rows": ((9, 600, 48), "int4", 64, {"zero_points": True}),
    "more rows per channel": ((9, 101, 33), "int8", 0, {"is_gemm": True}),
    "a block as large as the depth": ((1, 24, 17), "int4", 32, {"is_gemm": True}),
    "a Gemm": ((4, 101, 33), "int8", 32, {"is_gemm": True, "zero_points": True}),
}


@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
@pytest.mark.parametrize("name", MODELS)
def test_stored_integers_are_decoded_in_the_kernel(name: str, precision: str | None) -> None:
    sizes, dtype, block, options = MODELS[name]
    built = check(weight_only(sizes, dtype, block, **options), precision)
    assert built.report.fallbacks == {}
    assert operators(built.model)[-1] in ("MatMul+Relu", "Gemm+Relu")


def test_older_machines_decode_them_too() -> None:
    model = weight_only((2, 64, 40), "int4", 32, zero_points=True)
    assert check(model, target="generic-x86-avx2", threads=2).report.fallbacks == {}


@pytest.mark.parametrize(
    ("block", "axis", "reason"),
    [
        (12, 0, "blocks of 12 are no multiple of 8"),
        (8, 1, "the weight's blocks run along its output channels"),
    ],
)
def test_other_blocks_are_left_to_the_fallback(block: int, axis: int, reason: str) -> None:
    assert check(weight_only((1, 24, 16), "int4", block, axis=axis)).reasons == [reason]


def test_a_constant_in_blocks_can_be_added() -> None:
    stored = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
    scales = np.array([[1.0, 0.5], [0.25, 2.0]], np.float32)
    text = """
        g (float[2,8] x) => (float[2,8] y) <int8[2,8] c, float[2,2] s> {
            d = DequantizeLinear<axis = 1, block_size = 4>(c, s)
            y = Add(x, d)
        }"""
    check(parse(text, constants={"c": stored, "s": scales}))
