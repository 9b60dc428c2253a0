"""What goes in and out of a compiled model: types, shapes, and which values."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import testing
from gcompile.errors import CompileError
from tests.backends.tvm.lowering.compiling import check, parse


@pytest.mark.parametrize(
    "text",
    [
        """g (float[1,3,6,6] x) => (float[1,8,6,6] r, float[1,4,6,6] y)
        <float[8,3,3,3] k, float[4,8,3,3] w> {
            c = Conv<pads = [1,1,1,1]>(x, k)
            r = Relu(c)
            d = Conv<pads = [1,1,1,1]>(r, w)
            y = Relu(d)
        }""",
        """g (float[1,3,6,6] x) => (float[1,6,6,6] c, float[1,6,6,6] y) <float[6,3,3,3] k>
        { c = Conv<pads = [1,1,1,1]>(x, k) y = Relu(c) }""",
        """g (float[1,3,6,6] x) => (float[1,6,6,6] y, float[1,6,6,6] z) <float[6,3,3,3] k>
        { c = Conv<pads = [1,1,1,1]>(x, k) y = Relu(c) z = Identity(y) }""",
        "g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Relu(x) z = Relu(x) }",
        "g (float[1,3] x) => (float[1,3] x, float[1,3] y) { y = Relu(x) }",
        """g (float[1,3,4,4] x) => (float[1,3,4,4] y, float[1,4,4,4] z) <float[4,3,1,1] w>
        { y = Identity(x) z = Conv(x, w) }""",
        """g (float[1,3] x) => (float[1,3] y, float[2] k, float[2] l) <float[2] k = {1.0, 2.0}>
        { y = Relu(x) l = Neg(k) }""",
    ],
    ids=[
        "an output that is read inside",
        "an output before its activation",
        "one value under two names",
        "two outputs that are one value",
        "an input as an output",
        "an input under another name",
        "constants",
    ],
)
@pytest.mark.parametrize("precision", [None, "int8"])
def test_any_value_may_be_an_output(text: str, precision: str | None) -> None:
    assert check(text, precision).report.fallbacks == {}


@pytest.mark.parametrize(
    "text",
    [
        "g (float x, float s) => (float y) { a = Mul(x, s) y = Relu(a) }",
        "g (float[1,1] x) => (float y, float[1] z) <int64[0] none = {}, int64[1] one = {1}>"
        "{ y = Reshape(x, none) r = Exp(y) z = Reshape(r, one) }",
    ],
)
def test_scalars_stay_scalars(text: str) -> None:
    built = check(text)
    assert built.outputs["y"].shape == ()
    assert built.report.fallbacks == {}


@pytest.mark.parametrize("precision", [None, "int8", "bf16", "fp16"])
def test_a_scalar_goes_with_every_calibration_row(precision: str | None) -> None:
    text = """
        g (float[1,6] x, int64 rate) => (float[1,4] y, int64 twice) <float[6,4] w> {
            m = MatMul(x, w)
            f = Cast<to = 1>(rate)
            y = Add(m, f)
            twice = Add(rate, rate)
        }"""
    assert check(text, precision).outputs["twice"].shape == ()


@pytest.mark.parametrize("precision", [None, "int8"])
def test_half_precision_goes_in_and_out(precision: str | None) -> None:
    text = """
        g (float16[1,3,6,6] x) => (float16[1,8,6,6] y) <float16[8,3,3,3] k, float16[8] b>
        { c = Conv<pads = [1,1,1,1]>(x, k, b) y = Relu(c) }"""
    built = check(text, precision, tolerance=2e-3)
    assert built.outputs["y"].dtype == np.float16
    assert built.report.fallbacks == {}


def test_half_precision_may_only_go_out() -> None:
    text = "g (float[2,6] x) => (float16[2,6] y) { r = Tanh(x) y = Cast<to = 10>(r) }"
    assert check(text, tolerance=2e-3).outputs["y"].dtype == np.float16


def test_integers_and_truth_values_go_in_and_out() -> None:
    text = """
        g (int64[2,3] x, int32[2,3] i, bool[2,3] q, float[2,3] f, uint8[2,3] u)
        => (int64[2,3] a, int32[2,3] b, bool[2,3] c, float[2,3] d, uint8[2,3] e, int64[2] m) {
            a = Add(x, x)
            b = Mul(i, i)
            c = Not(q)
            n = Neg(f)
            d = Where(q, f, n)
            e = Identity(u)
            m = ArgMax<axis = 1, keepdims = 0>(f)
        }"""
    outputs = check(text).outputs
    found = [str(outputs[name].dtype) for name in "abcdem"]
    assert found == ["int64", "int32", "bool", "float32", "uint8", "int64"]


def test_types_that_numpy_lacks_are_refused_before_any_work() -> None:
    text = """
        g (float8e5m2[2,6] x) => (float8e5m2[2,6] y)
        { f = Cast<to = 1>(x) r = Relu(f) y = Cast<to = 19>(r) }"""
    with pytest.raises(CompileError, match=r"'x' as float8_e5m2.*Cast it to float32"):
        check(text)


def test_places_in_a_small_table_are_looked_up() -> None:
    text = """
        g (int64[1,5] x) => (float[1,5,4] y) <float[4,6] table, float[6,4] w>
        { t = Gather(table, x) y = MatMul(t, w) }"""
    assert check(text, "bf16").outputs["y"].shape == (1, 5, 4)


def test_outputs_need_not_begin_with_the_batch() -> None:
    text = """
        g (float[1,4] x, float[2,1,3] state) => (float[4,1] y, float z, float[2,1,3] next) {
            y = Transpose<perm = [1,0]>(x)
            z = ReduceMean<keepdims = 0>(x)
            next = Tanh(state)
        }"""
    built = check(text, "int8")
    assert built.report.fidelity is not None
    assert built.report.fidelity.rows == 8


def test_a_model_of_batch_two() -> None:
    text = """
        g (float[2,3,6,6] x) => (float[2,5] y) <float[6,3,3,3] k, float[54,5] w> {
            c = Conv<pads = [1,1,1,1]>(x, k)
            r = Relu(c)
            p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(r)
            f = Flatten(p)
            y = Gemm(f, w)
        }"""
    built = check(text, "int8")
    assert built.report.fallbacks == {}
    assert built.report.verify.rows > 1


def test_the_code_gives_the_same_numbers_every_time() -> None:
    model = parse("g (float[2,3] x) => (float[2,3] y) { e = Exp(x) y = Softmax(e) }")
    first, second = check(model), check(model)
    testing.assert_close(first.outputs, second.outputs, 0.0)
    np.testing.assert_array_equal(first.outputs["y"], second.outputs["y"])
