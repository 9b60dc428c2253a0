"""ConvInteger on dynamically quantized images becomes a convolution of decoders."""

from __future__ import annotations

import numpy as np

from gcompile import ir, testing
from gcompile.passes.canonicalize.lower_dynamic_convolutions import LowerDynamicConvolutions
from tests.backends.tvm.lowering.compiling import parse


def _model(*, zero: int = 128, pad: int = 1, scale: str = "s") -> ir.Model:
    constants: dict[str, ir.Array] = {
        "w": np.random.default_rng(0).integers(0, 256, (5, 3, 3, 3)).astype(np.uint8),
        "wz": np.array(zero, np.uint8),
        "ws": np.array(0.01, np.float32),
    }
    text = f"""
        g (float[2,3,7,7] x) => (float[2,5,{5 + 2 * pad},{5 + 2 * pad}] y)
        <uint8[5,3,3,3] w, uint8 wz, float ws> {{
            q, s, z = DynamicQuantizeLinear(x)
            sums = ConvInteger<pads = [{pad},{pad},{pad},{pad}]>(q, w, z, wz)
            reals = Cast<to = 1>(sums)
            both = Mul({scale}, ws)
            y = Mul(reals, both)
        }}"""
    return parse(text, constants=constants)


def _operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_differences_that_are_signed_bytes_are_convolved_as_they_are() -> None:
    model = _model(pad=0)
    record = testing.check_pass(LowerDynamicConvolutions(), model)
    assert record.changed == 1
    assert _operators(model).count("Conv") == 1
    assert "Pad" not in _operators(model)


def test_other_weights_take_the_sums_of_windows_along() -> None:
    model = _model(zero=90)
    record = testing.check_pass(LowerDynamicConvolutions(), model)
    assert record.changed == 1
    assert _operators(model).count("Conv") == 2


def test_padding_becomes_zeros_that_are_quantized() -> None:
    model = _model()
    testing.check_pass(LowerDynamicConvolutions(), model)
    assert _operators(model).index("Pad") < _operators(model).index("Conv")


def test_sums_that_are_scaled_otherwise_stay_exact() -> None:
    model = _model(scale="ws")
    assert "ConvInteger" not in _operators(model)
    assert LowerDynamicConvolutions().apply(model, testing.example_context()).changed == 0
