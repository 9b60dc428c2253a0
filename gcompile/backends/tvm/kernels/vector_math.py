"""Elementary functions of float32 vectors, to about 1e-6 relative error, without calls.

A call to the C library would take the lanes one by one. Polynomials are least-maximum fits of the
relative error (Lawson's iteration in float64); the range each was fitted on stands beside it.

In `T.max` and `T.min` the constant stands first: so written, NaN passes through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.image_access import narrow_to_bfloat16, widen_bfloat16
from gcompile.backends.tvm.kernels.lanes import Lanes, bind

_LOG2_E = 1.4426950408889634
_LN_2_HIGH = 0.693359375
_LN_2_LOW = -2.12194440054690583e-4

# exp(r) = 1 + r + r²·p(r), |r| <= ln(2)/2
_EXP = (4.999999341e-1, 1.666652011e-1, 4.166839426e-2, 8.368780622e-3, 1.381446475e-3)
# 2·artanh(s) = 2·s + s³·p(s²), s <= 1/3
_ARTANH = (6.666667562e-1, 3.999887774e-1, 2.861688490e-1, 2.142765687e-1, 2.430093811e-1)
# tanh(x) = x + x³·p(x²), |x| <= 0.625
_TANH = (-3.333328392e-1, 1.333149125e-1, -5.374349526e-2, 2.065057900e-2, -5.717036561e-3)
# erf(x) = x·p(x²), |x| <= 1
_ERF = (
    *(1.128379166, -3.761262582e-1, 1.128358515e-1, -2.685381187e-2),
    *(5.188327560e-3, -8.010192522e-4, 7.853857710e-5),
)
# erfc(x) = t·exp(-x² + p(t)), t = 1/(1 + x/2), 0 <= x <= 10
_ERFC = (
    *(-1.265446374, 9.985917339e-1, 3.870565910e-1, 3.234428702e-2, 8.592598193e-3),
    *(-9.516021868e-2, -6.771565920e-1, 1.141699229, -6.741981553e-1, 1.436769470e-1),
)

# Φ(-x) = exp(-x²/2 + p(x - 5)), 0 <= x <= 12, with a relative error of 4e-7 up to 8 and 7e-6 at
# the end. Φ is the normal distribution; a fit of least maximum error to log(erfcx(x/√2)/2).
_TAIL = (
    *(-2.564998627, -1.865047812e-1, 1.634918712e-2, -1.803425141e-3, 2.114562667e-4),
    *(-2.539592970e-5, 3.042520348e-6, -2.986290326e-7, 2.368775576e-8, -4.944715748e-9),
    *(8.721173228e-10, 1.509084090e-12, -1.400097226e-11, 9.482617599e-13),
)
_TAIL_MIDDLE = 5.0
_TAIL_END = 12.0

_LONG = 10
"""Coefficients from which on the latency of a polynomial is felt."""


def polynomial(coefficients: Sequence[float], x: Expr, lanes: Lanes) -> Expr:
    """Evaluate c₀ + c₁·x + c₂·x² + … by Horner's rule.

    Even and odd powers of a long one are summed side by side, so that they wait half as long.
    """
    if len(coefficients) >= _LONG:
        square = bind(x * x)
        odd = polynomial(coefficients[1::2], square, lanes)
        return bind(odd * x + polynomial(coefficients[::2], square, lanes))
    total = lanes.splat(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + lanes.splat(coefficient)
    return bind(total)


def exp(x: Expr, lanes: Lanes) -> Expr:
    """e^x, with overflow to infinity and gradual underflow to zero."""
    quotient, above_one = _exp_parts(x, lanes)
    return bind(_scale_by_power(above_one + lanes.splat(1.0), quotient, lanes))


def exp_below_zero(x: Expr, lanes: Lanes) -> Expr:
    """e^x for x <= 0, which is zero where it would hardly be a normal number."""
    x, lowest = bind(x), lanes.splat(-87.0)
    power = _exp_within_range(bind(T.max(lowest, x)), lanes)
    return bind(T.Select(x < lowest, lanes.splat(0.0), power))


def expm1(x: Expr, lanes: Lanes) -> Expr:
    """e^x - 1, as precise near zero as elsewhere."""
    quotient, above_one = _exp_parts(x, lanes)
    power = bind(_scale_by_power(lanes.splat(1.0), quotient, lanes))
    small = above_one * power + (power - lanes.splat(1.0))
    return bind(T.Select(x > lanes.splat(88.0), exp(x, lanes), small))


def log(x: Expr, lanes: Lanes) -> Expr:
    """The natural logarithm: -infinity at zero, NaN below."""
    tiny = x < lanes.splat(2.0**-126)
    normal = bind(T.Select(tiny, x * lanes.splat(2.0**24), x))
    bits = lanes.reinterpret("int32", normal)
    # Offset so that the mantissa falls into [√½, √2).
    offset = bind(bits - lanes.splat(0x3F3504F3, "int32"))
    exponent = bind(offset >> lanes.splat(23, "int32"))
    mantissa = bind(lanes.reinterpret("float32", bits - (exponent << lanes.splat(23, "int32"))))
    binary = lanes.cast("float32", exponent) - T.Select(tiny, lanes.splat(24.0), lanes.splat(0.0))
    binary = bind(binary)
    fraction = bind(mantissa - lanes.splat(1.0))
    small = _log1p_of_fraction(fraction, lanes)
    value = (small + binary * lanes.splat(_LN_2_LOW)) + binary * lanes.splat(_LN_2_HIGH)
    infinity = lanes.splat(math.inf)
    value = T.Select(x < infinity, value, x)  # infinity and NaN stay
    value = T.Select(x > lanes.splat(0.0), value, lanes.splat(-math.inf))
    return bind(T.Select(x >= lanes.splat(0.0), value, lanes.splat(math.nan)))


def tanh(x: Expr, lanes: Lanes) -> Expr:
    """The hyperbolic tangent."""
    magnitude = bind(T.abs(x))
    square = bind(x * x)
    near = x + x * square * polynomial(_TANH, square, lanes)
    one, two = lanes.splat(1.0), lanes.splat(2.0)
    far = one - two / (exp(magnitude * two, lanes) + one)
    return bind(T.Select(magnitude > lanes.splat(0.625), _with_sign(far, x, lanes), near))


def erf(x: Expr, lanes: Lanes) -> Expr:
    """The error function."""
    magnitude = bind(T.abs(x))
    near = x * polynomial(_ERF, bind(x * x), lanes)
    far = lanes.splat(1.0) - erfc_of_magnitude(magnitude, lanes)
    return bind(T.Select(magnitude > lanes.splat(1.0), _with_sign(far, x, lanes), near))


def erfc_of_magnitude(x: Expr, lanes: Lanes) -> Expr:
    """1 - erf(x) for x >= 0."""
    one = lanes.splat(1.0)
    slope = bind(one / (one + x * lanes.splat(0.5)))
    return bind(slope * exp(polynomial(_ERFC, slope, lanes) - x * x, lanes))


def sigmoid(x: Expr, lanes: Lanes) -> Expr:
    """1 / (1 + e^-x)."""
    one = lanes.splat(1.0)
    return bind(one / (one + exp(lanes.splat(0.0) - x, lanes)))


def gelu(x: Expr, lanes: Lanes) -> Expr:
    """x·Φ(x) = max(x, 0) - |x|·Φ(-|x|).

    The tail is computed as itself, not as a difference from one, and held at a place from where on
    it no longer matters.
    """
    held = bind(T.min(T.abs(x), lanes.splat(_TAIL_END)))
    from_middle = bind(held - lanes.splat(_TAIL_MIDDLE))
    rest = polynomial(_TAIL, from_middle, lanes)
    tail = _exp_within_range(bind(rest - held * lanes.splat(0.5) * held), lanes)
    return bind(T.max(lanes.splat(0.0), x) - held * tail)


def gelu_tanh(x: Expr, lanes: Lanes) -> Expr:
    """x·(1 + tanh(u))/2 with u = √(2/π)·(x + 0.044715·x³), which is x·sigmoid(2u)."""
    cubic = x + lanes.splat(0.044715) * x * x * x
    return bind(x * sigmoid(bind(lanes.splat(2.0 * math.sqrt(2.0 / math.pi)) * cubic), lanes))


def softplus(x: Expr, lanes: Lanes) -> Expr:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    zero = lanes.splat(0.0)
    decay = exp(zero - T.abs(x), lanes)
    return bind(T.max(zero, x) + _log1p_of_fraction(decay, lanes))


def mish(x: Expr, lanes: Lanes) -> Expr:
    """x·tanh(softplus(x)) = x·n/(n + 2) with n = e^x·(e^x + 2)."""
    two = lanes.splat(2.0)
    growth = exp(T.min(lanes.splat(20.0), x), lanes)
    numerator = bind(growth * (growth + two))
    return bind(x * (numerator / (numerator + two)))


def power(base: Expr, exponent: Expr, lanes: Lanes) -> Expr:
    """base^exponent by exp(exponent · log|base|); the relative error grows with that product.

    A negative base needs an integer exponent, as in C's `pow`.
    """
    zero, one, two = lanes.splat(0.0), lanes.splat(1.0), lanes.splat(2.0)
    size = exp(bind(exponent * log(bind(T.abs(base)), lanes)), lanes)
    is_integer = T.floor(exponent) >= exponent
    half = bind(exponent / two)
    is_odd = half > T.floor(half)
    signed = T.Select(is_odd, zero - size, size)
    of_negative = T.Select(is_integer, signed, lanes.splat(math.nan))
    value = bind(T.Select(base < zero, of_negative, size))
    is_zero = T.abs(exponent) <= zero
    return bind(T.Select(is_zero, one, value))


def integer_power(base: Expr, exponent: int) -> Expr:
    """base^exponent for a small positive exponent, by repeated squaring."""
    if exponent == 1:
        return base
    root = integer_power(base, exponent // 2)
    square = bind(root * root)
    return bind(square * base) if exponent % 2 else square


def _exp_within_range(x: Expr, lanes: Lanes) -> Expr:
    """e^x where that is a normal number.

    Adding 1.5·2^23 rounds to an integer and leaves it in the lowest bits, from where a shift
    brings it into the exponent.
    """
    magic = lanes.splat(1.5 * 2.0**23)
    shifted = bind(x * lanes.splat(_LOG2_E) + magic)
    quotient = bind(shifted - magic)
    rest = x - quotient * lanes.splat(_LN_2_HIGH)
    rest = bind(rest - quotient * lanes.splat(_LN_2_LOW))
    fraction = bind(polynomial((1.0, 1.0, *_EXP), rest, lanes))
    exponent = lanes.reinterpret("int32", shifted) << lanes.splat(23, "int32")
    power = lanes.reinterpret("float32", lanes.reinterpret("int32", fraction) + exponent)
    return bind(power)


def _exp_parts(x: Expr, lanes: Lanes) -> tuple[Expr, Expr]:
    """(n, e^r - 1) of x = n·ln 2 + r. x is held where e^x is neither zero nor infinite by far."""
    held = bind(T.min(lanes.splat(90.0), T.max(lanes.splat(-105.0), x)))
    quotient = bind(T.nearbyint(held * lanes.splat(_LOG2_E)))
    rest = held - quotient * lanes.splat(_LN_2_HIGH)
    rest = bind(rest - quotient * lanes.splat(_LN_2_LOW))
    above_one = bind(rest + rest * rest * polynomial(_EXP, rest, lanes))
    return bind(lanes.cast("int32", quotient)), above_one


def _scale_by_power(x: Expr, exponent: Expr, lanes: Lanes) -> Expr:
    """x·2^exponent in two steps, so that neither factor leaves the range of exponents."""
    first = bind(exponent >> lanes.splat(1, "int32"))
    return x * _power_of_two(first, lanes) * _power_of_two(exponent - first, lanes)


def _power_of_two(exponent: Expr, lanes: Lanes) -> Expr:
    biased = exponent + lanes.splat(127, "int32")
    return lanes.reinterpret("float32", biased << lanes.splat(23, "int32"))


def _log1p_of_fraction(x: Expr, lanes: Lanes) -> Expr:
    """log(1 + x) = 2·artanh(x / (2 + x)) for √½ - 1 <= x <= 1."""
    slope = bind(x / (x + lanes.splat(2.0)))
    square = bind(slope * slope)
    cubic = square * polynomial(_ARTANH, square, lanes)
    return bind(slope * (lanes.splat(2.0) + cubic))


def _with_sign(magnitude: Expr, x: Expr, lanes: Lanes) -> Expr:
    return T.Select(x < lanes.splat(0.0), lanes.splat(0.0) - magnitude, magnitude)


Function = Callable[[Expr, Lanes, float, float], Expr]


def _leaky(x: Expr, lanes: Lanes, alpha: float, _: float) -> Expr:
    return T.Select(x < lanes.splat(0.0), x * lanes.splat(alpha), x)


def _elu(x: Expr, lanes: Lanes, alpha: float, gamma: float) -> Expr:
    below = lanes.splat(alpha * gamma) * expm1(x, lanes)
    above = x if gamma == 1.0 else x * lanes.splat(gamma)
    return T.Select(x < lanes.splat(0.0), below, above)


def _clip(x: Expr, lanes: Lanes, low: float, high: float) -> Expr:
    return T.min(lanes.splat(high), T.max(lanes.splat(low), x))


def _sign(x: Expr, lanes: Lanes, _: float, __: float) -> Expr:
    zero, one = lanes.splat(0.0), lanes.splat(1.0)
    return T.Select(x > zero, one, T.Select(x < zero, zero - one, x))


def _is_nan(x: Expr, lanes: Lanes, _: float, __: float) -> Expr:
    """By its bits: the simplifier takes it that every number equals itself."""
    magnitude = lanes.reinterpret("uint32", x) & lanes.splat(0x7FFFFFFF, "uint32")
    is_nan = magnitude > lanes.splat(0x7F800000, "uint32")
    return T.Select(is_nan, lanes.splat(1.0), lanes.splat(0.0))


UNARY: dict[str, Function] = {
    "abs": lambda x, *_: T.abs(x),
    "neg": lambda x, lanes, *_: x * lanes.splat(-1.0),
    "exp": lambda x, lanes, *_: exp(x, lanes),
    "log": lambda x, lanes, *_: log(x, lanes),
    "sqrt": lambda x, *_: T.sqrt(x),
    "reciprocal": lambda x, lanes, *_: lanes.splat(1.0) / x,
    "relu": lambda x, lanes, *_: T.max(lanes.splat(0.0), x),
    "clip": _clip,
    "leaky_relu": _leaky,
    "sigmoid": lambda x, lanes, *_: sigmoid(x, lanes),
    "hard_sigmoid": lambda x, lanes, alpha, beta: _clip(
        x * lanes.splat(alpha) + lanes.splat(beta), lanes, 0.0, 1.0
    ),
    "hard_swish": lambda x, lanes, *_: (
        x * _clip(x * lanes.splat(1.0 / 6.0) + lanes.splat(0.5), lanes, 0.0, 1.0)
    ),
    "silu": lambda x, lanes, *_: x * sigmoid(x, lanes),
    "tanh": lambda x, lanes, *_: tanh(x, lanes),
    "erf": lambda x, lanes, *_: erf(x, lanes),
    "gelu": lambda x, lanes, *_: gelu(x, lanes),
    "gelu_tanh": lambda x, lanes, *_: gelu_tanh(x, lanes),
    "elu": lambda x, lanes, alpha, _: _elu(x, lanes, alpha, 1.0),
    "selu": _elu,
    "softplus": lambda x, lanes, *_: softplus(x, lanes),
    "mish": lambda x, lanes, *_: mish(x, lanes),
    "floor": lambda x, *_: T.floor(x),
    "ceil": lambda x, *_: T.ceil(x),
    "round": lambda x, *_: T.nearbyint(x),
    "sign": _sign,
    "is_nan": _is_nan,
    "softsign": lambda x, lanes, *_: x / (lanes.splat(1.0) + T.abs(x)),
    "affine": lambda x, lanes, alpha, beta: x * lanes.splat(alpha) + lanes.splat(beta),
    "scaled_tanh": lambda x, lanes, alpha, beta: (
        lanes.splat(alpha) * tanh(bind(x * lanes.splat(beta)), lanes)
    ),
    "thresholded_relu": lambda x, lanes, alpha, _: T.Select(
        x > lanes.splat(alpha), x, lanes.splat(0.0)
    ),
    "round_trip_float16": lambda x, lanes, *_: lanes.cast("float32", lanes.cast("float16", x)),
    "round_trip_bfloat16": lambda x, lanes, *_: widen_bfloat16(
        narrow_to_bfloat16(x, lanes), lanes
    ),
}
"""Every function of `Unary`, by name."""
