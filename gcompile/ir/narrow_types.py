"""Number formats of eight bits and fewer that no kernel computes in: what their codes stand for.

A float of such a format is a code, its bits in a byte; an integer of two or four bits is a whole
number in a byte. Rounding to a format counts how many of its boundaries a magnitude has reached:
a boundary is the middle between two neighbours, and belongs to the one whose code is even, as IEEE
754 rounds. The formats are those of the Open Compute Project's OFP8 and MX specifications and of
Noune et al. (arXiv 2206.02915); `ml_dtypes` has the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir
from numpy.typing import NDArray

_FLOATS = frozenset(
    {onnx_ir.DataType.FLOAT8E4M3FN, onnx_ir.DataType.FLOAT8E4M3FNUZ, onnx_ir.DataType.FLOAT8E5M2,
     onnx_ir.DataType.FLOAT8E5M2FNUZ, onnx_ir.DataType.FLOAT4E2M1, onnx_ir.DataType.FLOAT8E8M0}
)  # fmt: skip
INTEGER_BITS = {
    onnx_ir.DataType.INT4: 4, onnx_ir.DataType.UINT4: 4,
    onnx_ir.DataType.INT2: 2, onnx_ir.DataType.UINT2: 2,
}  # fmt: skip
_SIGNED = frozenset({onnx_ir.DataType.INT4, onnx_ir.DataType.INT2})
NARROW = _FLOATS | INTEGER_BITS.keys()

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Rounding:
    """How magnitudes become codes.

    Attributes:
        boundaries: Rising. The number of those that a magnitude has reached is an index below.
        positive: The code for each index.
        negative: The same for numbers with the sign bit set.
        nan: The code of what is no number.
    """

    boundaries: Floats
    positive: Codes
    negative: Codes
    nan: int


def is_narrow_float(dtype: onnx_ir.DataType | None) -> bool:
    """Whether values of the type are codes."""
    return dtype in _FLOATS


def stored_type(dtype: onnx_ir.DataType) -> onnx_ir.DataType:
    """The type of the byte that stands for a number of a narrow type."""
    return onnx_ir.DataType.INT8 if dtype in _SIGNED else onnx_ir.DataType.UINT8


def stored(array: NDArray[np.generic], dtype: onnx_ir.DataType) -> NDArray[np.generic]:
    """The bytes that stand for an array of a narrow type."""
    byte = stored_type(dtype).numpy()
    return array.view(byte) if is_narrow_float(dtype) else array.astype(byte)


def restored(array: NDArray[np.generic], dtype: onnx_ir.DataType) -> NDArray[np.generic]:
    """The array of a narrow type that bytes stand for."""
    return array.view(dtype.numpy()) if is_narrow_float(dtype) else array.astype(dtype.numpy())


@cache
def decoded(dtype: onnx_ir.DataType) -> NDArray[np.float32]:
    """The value of each code."""
    codes = np.arange(_code_count(dtype), dtype=np.uint8)
    return codes.view(dtype.numpy()).astype(np.float32)


@cache
def rounding_to(dtype: onnx_ir.DataType, saturate: bool, mode: str = "nearest") -> Rounding:
    """The rounding of ONNX's Cast.

    Args:
        dtype: A narrow float.
        saturate: Whether what is too large becomes the largest number, else infinity, or what is
            no number where the format has no infinity.
        mode: For the powers of two of FLOAT8E8M0 alone: `nearest`, `up` or `down`.
    """
    nan = int(np.float32(np.nan).astype(dtype.numpy()).view(np.uint8))
    if dtype is onnx_ir.DataType.FLOAT8E8M0:
        return _powers(nan, saturate, mode)
    values = decoded(dtype)[: _code_count(dtype) // 2].astype(np.float64)
    values = values[np.isfinite(values)]
    largest = len(values) - 1
    codes = list(range(largest + 1))
    if not saturate and dtype is not onnx_ir.DataType.FLOAT4E2M1:
        values = np.append(values, 2 * values[-1] - values[-2])
        codes.append(int(np.float32(np.inf).astype(dtype.numpy()).view(np.uint8)))
    positive = np.array(codes, np.int32)
    sign = _code_count(dtype) // 2
    negative = positive | sign
    if np.isnan(decoded(dtype)[sign]):  # Without a negative zero, its code is no number.
        negative[0] = 0
    return Rounding(_boundaries(values), positive, negative, nan)


def _boundaries(values: Floats) -> Floats:
    """Between a code and the next; the middle belongs to the even one."""
    middle = (values[:-1] + values[1:]) / 2
    is_even = np.arange(len(middle)) % 2 == 0
    return np.where(is_even, np.nextafter(middle, np.inf), middle)


def _powers(nan: int, saturate: bool, mode: str) -> Rounding:
    """FLOAT8E8M0 has powers of two, no zero and no sign."""
    values = decoded(onnx_ir.DataType.FLOAT8E8M0)[:nan].astype(np.float64)
    codes = list(range(nan))
    if not saturate:
        values = np.append(values, 2 * values[-1])
        codes.append(nan)
    boundaries = {
        "up": np.nextafter(values[:-1], np.inf),
        "down": values[1:],
        "nearest": (values[:-1] + values[1:]) / 2,
    }[mode]
    positive = np.array(codes, np.int32)
    return Rounding(boundaries, positive, np.full_like(positive, nan), nan)


def _code_count(dtype: onnx_ir.DataType) -> int:
    return 16 if dtype is onnx_ir.DataType.FLOAT4E2M1 else 256
