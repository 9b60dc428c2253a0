"""What scalar operations mean: their text in CUDA C, and the same on numpy arrays.

One table gives both meanings of every operation, so the text that runs on a device and the values
that the interpreter computes cannot drift apart.

Floating-point operations are rounded one by one (no contraction), so both meanings agree to the
last bit except where a function of the mathematics library is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

DType = Literal["int32", "uint32", "float32", "bool"]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """The two meanings of one operation.

    Attributes:
        text: CUDA C with `{}` for each operand.
        compute: The same on numpy arrays.
        dtype: Of the result; None for the type of the first operand.
    """

    text: str
    compute: Callable[..., Any]
    dtype: DType | None = None


def _divide(left: Array, right: Array) -> Array:
    _need_not_negative(left, right)
    return np.asarray(left // right)


def _remainder(left: Array, right: Array) -> Array:
    _need_not_negative(left, right)
    return np.asarray(left % right)


def _need_not_negative(left: Array, right: Array) -> None:
    if np.any(np.asarray(left) < 0) or np.any(np.asarray(right) <= 0):
        raise ArithmeticError("Division is of numbers that are not negative, by positive ones.")


def _float(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute in double precision and round once, as the device's functions nearly do."""

    def compute(*operands: Array) -> Array:
        wide = [np.asarray(o, np.float64) for o in operands]
        with np.errstate(all="ignore"):
            return np.asarray(function(*wide)).astype(np.float32)

    return compute


def _saturated(low: int, high: int) -> Callable[[Array], Array]:
    def compute(value: Array) -> Array:
        rounded = np.rint(np.nan_to_num(np.asarray(value, np.float64), nan=0.0))
        return np.clip(rounded, low, high).astype(np.int64)

    return compute


def _pack(dtype: np.dtype[np.generic]) -> Callable[[Array, Array], Array]:
    """Two numbers of 16 bits in one register, the first in the lower half."""

    def bits(value: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(np.asarray(value).astype(dtype)).view(np.uint16)

    def compute(low: Array, high: Array) -> Array:
        return np.asarray(bits(low).astype(np.uint32) | bits(high).astype(np.uint32) << 16)

    return compute


def _fma_pairs(dtype: np.dtype[np.generic]) -> Callable[[Array, Array, Array], Array]:
    """A · b + c on both halves of each register, rounded once."""

    def compute(*registers: Array) -> Array:
        wide = [
            np.atleast_1d(np.asarray(r).astype(np.uint32))[..., None]
            .view(dtype)
            .astype(np.float64)
            for r in registers
        ]
        result = np.ascontiguousarray((wide[0] * wide[1] + wide[2]).astype(dtype))
        return result.view(np.uint32)[..., 0]

    return compute


def _permute_bytes(low: Array, high: Array, selector: Array) -> Array:
    """Byte i of the result is the byte of the eight that digit i of the selector names."""
    both_words = np.asarray(low).astype(np.uint64) | np.asarray(high).astype(np.uint64) << 32
    result = np.zeros_like(both_words)
    for i in range(4):
        chosen = np.asarray(selector).astype(np.uint64) >> (4 * i) & 7
        result |= (both_words >> (8 * chosen) & 0xFF) << (8 * i)
    return np.asarray(result.astype(np.uint32))


OPERATIONS: dict[str, Operation] = {
    "add": Operation("({} + {})", np.add),
    "sub": Operation("({} - {})", np.subtract),
    "mul": Operation("({} * {})", np.multiply),
    "div": Operation("(int)((unsigned)({}) / (unsigned)({}))", _divide),
    "mod": Operation("(int)((unsigned)({}) % (unsigned)({}))", _remainder),
    "xor": Operation("({} ^ {})", np.bitwise_xor),
    "and": Operation("({} & {})", np.bitwise_and),
    "shift_right": Operation("({} >> {})", np.right_shift),
    "shift_left": Operation("({} << {})", np.left_shift),
    "or": Operation("({} | {})", np.bitwise_or),
    "permute_bytes": Operation("__byte_perm({}, {}, {})", _permute_bytes),
    "as_float": Operation(
        "__uint_as_float({})",
        lambda word: np.asarray(word).astype(np.uint32).view(np.float32),
        "float32",
    ),
    "fma_f16": Operation("fma_f16({}, {}, {})", _fma_pairs(np.dtype(np.float16))),
    "fma_bf16": Operation("fma_bf16({}, {}, {})", _fma_pairs(np.dtype(ml_dtypes.bfloat16))),
    "min": Operation("min({}, {})", np.minimum),
    "less": Operation("({} < {})", np.less, "bool"),
    "less_equal": Operation("({} <= {})", np.less_equal, "bool"),
    "equal": Operation("({} == {})", np.equal, "bool"),
    "differs": Operation("({} != {})", np.not_equal, "bool"),
    "inside": Operation(
        "((unsigned)({}) < (unsigned)({}))",
        lambda place, size: (np.asarray(place) >= 0) & (np.asarray(place) < size),
        "bool",
    ),
    "both": Operation("({} && {})", np.logical_and, "bool"),
    "select": Operation("({} ? {} : {})", np.where),
    "fadd": Operation("__fadd_rn({}, {})", _float(np.add)),
    "fsub": Operation("__fsub_rn({}, {})", _float(np.subtract)),
    "fmul": Operation("__fmul_rn({}, {})", _float(np.multiply)),
    "fdiv": Operation("__fdiv_rn({}, {})", _float(np.divide)),
    "fma": Operation("__fmaf_rn({}, {}, {})", _float(lambda a, b, c: a * b + c)),
    "fmin": Operation("fminf({}, {})", _float(np.fmin)),
    "fmax": Operation("fmaxf({}, {})", _float(np.fmax)),
    "abs": Operation("fabsf({})", _float(np.abs)),
    "floor": Operation("floorf({})", _float(np.floor)),
    "ceil": Operation("ceilf({})", _float(np.ceil)),
    "rint": Operation("rintf({})", _float(np.rint)),
    "sqrt": Operation("__fsqrt_rn({})", _float(np.sqrt)),
    "exp2": Operation("exp2_approximately({})", _float(np.exp2)),
    "exp": Operation("expf({})", _float(np.exp)),
    "pack_f16": Operation("pack_f16({}, {})", _pack(np.dtype(np.float16)), "uint32"),
    "pack_bf16": Operation("pack_bf16({}, {})", _pack(np.dtype(ml_dtypes.bfloat16)), "uint32"),
    "expm1": Operation("expm1f({})", _float(np.expm1)),
    "round_to_bf16": Operation(
        "bf16_to_float(float_to_bf16({}))",
        lambda v: np.asarray(v, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32),
    ),
    "log": Operation("logf({})", _float(np.log)),
    "log1p": Operation("log1pf({})", _float(np.log1p)),
    "tanh": Operation("tanhf({})", _float(np.tanh)),
    "erf": Operation("erff({})", _float(erf)),
    "pow": Operation("powf({}, {})", _float(np.power)),
    "int_to_float": Operation(
        "__int2float_rn({})", lambda v: np.asarray(v, np.float32), "float32"
    ),
    "float_to_s32": Operation("__float2int_rn({})", _saturated(-(2**31), 2**31 - 1), "int32"),
}
"""Every operation. Float comparisons follow IEEE 754: they fail where one side is NaN."""
