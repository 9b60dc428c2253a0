"""The functions of one value that follow a product, on float32 scalars."""

from __future__ import annotations

import math
from collections.abc import Callable

from gcompile.backends.cuda.program.scalar import Scalar, apply, select

Function = Callable[[Scalar, float, float], Scalar]


def maximum(left: Scalar | float, right: Scalar | float) -> Scalar:
    """The larger one; where the right one is NaN, NaN."""
    return select(apply("less", right, left), left, right)


def minimum(left: Scalar | float, right: Scalar | float) -> Scalar:
    """The smaller one; where the right one is NaN, NaN."""
    return select(apply("less", left, right), left, right)


def clip(x: Scalar, low: float, high: float) -> Scalar:
    """Hold between two bounds; NaN stays."""
    return minimum(high, maximum(low, x))


def sigmoid(x: Scalar) -> Scalar:
    """1 / (1 + e^-x)."""
    return apply("fdiv", _number(1.0), _add(apply("exp", _mul(x, -1.0)), 1.0))


def gelu(x: Scalar) -> Scalar:
    """X · (1 + erf(x / √2)) / 2."""
    return _mul(_mul(x, 0.5), _add(apply("erf", _mul(x, math.sqrt(0.5))), 1.0))


def gelu_tanh(x: Scalar) -> Scalar:
    """X · (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2."""
    inner = _add(_mul(_mul(_mul(x, x), x), 0.044715), x)
    return _mul(_mul(x, 0.5), _add(apply("tanh", _mul(inner, math.sqrt(2 / math.pi))), 1.0))


def softplus(x: Scalar) -> Scalar:
    """log(1 + e^x), without overflow."""
    small = apply("log1p", apply("exp", _mul(apply("abs", x), -1.0)))
    return _add(maximum(0.0, x), small)


def _hard_sigmoid(x: Scalar, alpha: float, beta: float) -> Scalar:
    return clip(_add(_mul(x, alpha), beta), 0.0, 1.0)


def _elu(x: Scalar, alpha: float, gamma: float) -> Scalar:
    below = _mul(apply("expm1", x), alpha * gamma)
    return select(apply("less", x, 0.0), below, _mul(x, gamma))


def _sign(x: Scalar, _: float, __: float) -> Scalar:
    return select(apply("less", 0.0, x), 1.0, select(apply("less", x, 0.0), _number(-1.0), x))


UNARY: dict[str, Function] = {
    "abs": lambda x, *_: apply("abs", x),
    "neg": lambda x, *_: _mul(x, -1.0),
    "exp": lambda x, *_: apply("exp", x),
    "log": lambda x, *_: apply("log", x),
    "sqrt": lambda x, *_: apply("sqrt", x),
    "reciprocal": lambda x, *_: apply("fdiv", _number(1.0), x),
    "relu": lambda x, *_: maximum(0.0, x),
    "clip": clip,
    "leaky_relu": lambda x, alpha, _: select(apply("less", x, 0.0), _mul(x, alpha), x),
    "sigmoid": lambda x, *_: sigmoid(x),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x, *_: apply("fmul", x, _hard_sigmoid(x, 1 / 6, 0.5)),
    "silu": lambda x, *_: apply("fmul", x, sigmoid(x)),
    "tanh": lambda x, *_: apply("tanh", x),
    "erf": lambda x, *_: apply("erf", x),
    "gelu": lambda x, *_: gelu(x),
    "gelu_tanh": lambda x, *_: gelu_tanh(x),
    "elu": lambda x, alpha, _: _elu(x, alpha, 1.0),
    "selu": _elu,
    "softplus": lambda x, *_: softplus(x),
    "mish": lambda x, *_: apply("fmul", x, apply("tanh", softplus(x))),
    "floor": lambda x, *_: apply("floor", x),
    "ceil": lambda x, *_: apply("ceil", x),
    "round": lambda x, *_: apply("rint", x),
    "sign": _sign,
    "softsign": lambda x, *_: apply("fdiv", x, _add(apply("abs", x), 1.0)),
    "affine": lambda x, alpha, beta: _add(_mul(x, alpha), beta),
    "scaled_tanh": lambda x, alpha, beta: _mul(apply("tanh", _mul(x, beta)), alpha),
    "thresholded_relu": lambda x, alpha, _: select(apply("less_equal", x, alpha), 0.0, x),
    "round_trip_bfloat16": lambda x, *_: apply("round_to_bf16", x),
    "is_nan": lambda x, *_: select(apply("differs", x, x), _number(1.0), _number(0.0)),
}

_COMPARISONS = ("less", "less_equal", "equal")
_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "pow": "pow"}


def binary(function: str, left: Scalar, right: Scalar) -> Scalar:
    """A function of two values; comparisons give 1 or 0.

    Raises:
        KeyError: There is no such function.
    """
    if function in _COMPARISONS:
        return select(apply(function, left, right), _number(1.0), _number(0.0))
    if function in ("max", "min"):
        return maximum(left, right) if function == "max" else minimum(left, right)
    return apply(_ARITHMETIC[function], left, right)


def _number(value: float) -> Scalar:
    return Scalar("constant", "float32", (), value)


def _add(x: Scalar, value: float | Scalar) -> Scalar:
    return apply("fadd", x, value)


def _mul(x: Scalar, value: float | Scalar) -> Scalar:
    return apply("fmul", x, value)
