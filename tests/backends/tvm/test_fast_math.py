"""Elementary functions are accurate everywhere, and keep infinity and NaN what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special
import tvm
from tvm import relax

from gcompile.backends.tvm import fast_math
from tests.backends.tvm.kernels.compiling import target

Array = npt.NDArray[Any]
Operator = Callable[[relax.Expr], relax.Expr]

FUNCTIONS: dict[str, tuple[Operator, Callable[[Array], Array]]] = {
    "exp": (relax.op.exp, np.exp),
    "log": (relax.op.log, np.log),
    "tanh": (relax.op.tanh, np.tanh),
    "erf": (relax.op.erf, scipy.special.erf),
    "sigmoid": (relax.op.sigmoid, scipy.special.expit),
    "silu": (relax.op.nn.silu, lambda x: x * scipy.special.expit(x)),
    "gelu": (relax.op.nn.gelu, lambda x: x * scipy.special.ndtr(x)),
    "softplus": (relax.op.nn.softplus, lambda x: np.logaddexp(0, x)),
    "square": (lambda x: relax.op.power(x, relax.const(np.float32(2))), np.square),
    "root": (
        lambda x: relax.op.power(relax.op.abs(x), relax.const(np.float32(0.5))),
        lambda x: np.sqrt(np.abs(x)),
    ),
}


def _apply(operator: Operator, x: Array) -> Array:
    builder = relax.BlockBuilder()
    variable = relax.Var("x", relax.TensorType(x.shape, str(x.dtype)))
    with builder.function("main", [variable]):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(operator(variable)))
        builder.emit_func_output(result)
    module = relax.transform.LegalizeOps(fast_math.legalizations())(builder.get())
    machine = relax.VirtualMachine(tvm.compile(module, target=target()), tvm.cpu())
    return np.asarray(machine["main"](tvm.runtime.tensor(x)).numpy())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_accurate_to_a_few_units_in_the_last_place(name: str) -> None:
    operator, exact = FUNCTIONS[name]
    x = np.concatenate(
        [np.linspace(-120, 120, 6001), np.linspace(-3, 3, 6001), np.geomspace(1e-30, 1, 200)]
    ).astype("float32")
    with np.errstate(all="ignore"):
        expected = exact(x.astype("float64"))
        rounded = expected.astype("float32")
    actual = _apply(operator, x)
    normal = np.isfinite(rounded) & (np.abs(expected) > 1e-30)
    np.testing.assert_allclose(actual[normal], expected[normal], rtol=2e-5)
    np.testing.assert_array_equal(actual[~np.isfinite(rounded)], rounded[~np.isfinite(rounded)])
    small = np.isfinite(rounded) & ~normal
    np.testing.assert_allclose(actual[small], expected[small], atol=1e-30)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("silu", "gelu")])
def test_infinity_and_nan_stay_what_they_are(name: str) -> None:
    operator, exact = FUNCTIONS[name]
    x = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 0.0], "float32")
    with np.errstate(all="ignore"):
        expected = exact(x.astype("float64")).astype("float32")
    np.testing.assert_array_equal(_apply(operator, x), expected)


def test_a_sigmoid_far_below_zero_is_zero() -> None:
    x = np.array([-100, -88, -1e30], "float32")
    np.testing.assert_allclose(_apply(relax.op.sigmoid, x), 0, atol=1e-37)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "gelu", "softplus"])
def test_float16_is_computed_in_float32(name: str) -> None:
    operator, exact = FUNCTIONS[name]
    x = np.linspace(-10, 10, 501).astype("float16")
    actual = _apply(operator, x)
    assert actual.dtype == np.float16
    expected = exact(x.astype("float64")).astype("float16")
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-7)


def test_float64_keeps_its_precision() -> None:
    x = np.linspace(-10, 10, 501)
    np.testing.assert_allclose(_apply(relax.op.exp, x), np.exp(x), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_of_large_logits(dtype: str, axis: int) -> None:
    x = np.random.default_rng(0).normal(scale=30, size=(17, 33)).astype(dtype)
    expected = scipy.special.softmax(x.astype("float64"), axis)
    actual = _apply(lambda v: relax.op.nn.softmax(v, axis), x)
    np.testing.assert_allclose(actual, expected, atol=1e-3 if dtype == "float16" else 1e-6)


def test_log_softmax_does_not_cancel() -> None:
    x = np.random.default_rng(0).normal(scale=30, size=(17, 33)).astype("float32")
    expected = scipy.special.log_softmax(x.astype("float64"), -1)
    actual = _apply(lambda v: relax.op.nn.log_softmax(v, -1), x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
