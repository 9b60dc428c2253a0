from __future__ import annotations

import numpy as np

from gcompile import ir, testing
from gcompile.passes.precision import WidenFloat16
from tests.passes.example_models import HEADER

# The text format writes fp16 numbers as their bits: 14336 is 0.5, 48640 is -1.5.
MODEL = (
    HEADER
    + """
    g (float16[1,3] x) => (float16[1,2] y)
    <float16[3,2] w = {14336, 48640, 16384, 13312, 47616, 15360},
     float16[2] b = {12288, 49664}> {
        m = MatMul(x, w)
        a = Add(m, b)
        wide = Cast<to = 1>(a)
        e = Tanh(wide)
        narrow = Cast<to = 10>(e)
        y = Relu(narrow)
    }"""
)


def test_casts_remain_at_the_border_only() -> None:
    model = ir.parse(MODEL)
    assert WidenFloat16().run(model, testing.example_context()) == 7
    assert testing.to_lines(model) == "\n".join(
        [
            "x_widened = Cast<to=1>(x)",
            "m = MatMul(x_widened, w)",
            "a = Add(m, b)",
            "e = Tanh(a)",
            "y_widened = Relu(e)",
            "y = Cast<to=10>(y_widened)",
        ]
    )
    assert all(v.dtype is ir.DataType.FLOAT for n in list(model.graph)[:-1] for v in n.outputs)


def test_weights_keep_their_numbers() -> None:
    model = ir.parse(MODEL)
    WidenFloat16().run(model, testing.example_context())
    weight = ir.constant_array(model.graph.initializers["w"])
    assert weight is not None
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight.reshape(-1), [0.5, -1.5, 2.0, 0.25, -0.75, 1.0])


def test_it_keeps_the_contract_and_the_interface() -> None:
    record = testing.check_pass(WidenFloat16(), ir.parse(MODEL))
    assert record.changed == 7


def test_an_fp32_model_is_left_alone() -> None:
    model = ir.parse(HEADER + "g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert WidenFloat16().run(model, testing.example_context()) == 0


def test_a_model_that_only_rounds_its_interface_is_left_alone() -> None:
    model = ir.parse(
        HEADER
        + """g (float16[2] x) => (float16[2] y)
        { a = Cast<to = 1>(x) b = Relu(a) y = Cast<to = 10>(b) }"""
    )
    assert WidenFloat16().run(model, testing.example_context()) == 0
