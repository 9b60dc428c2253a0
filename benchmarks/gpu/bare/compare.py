"""How far results are from what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.bare.case import WrongError

Array = NDArray[Any]

_LARGEST_ERROR = {"float64": 1e-6, "float32": 1e-4, "float16": 2**-8, "bfloat16": 2**-5}
"""Of one kernel, relative to its largest result: two units in the last place, and for float32 what
another order of some thousand additions changes."""

_MOST_OFF_BY_ONE = 1e-3
"""Share of 8-bit results that a multiplication rounded together with an addition may move."""


def compare_kernel(got: Array, want: Array, dtype: str) -> dict[str, Any]:
    """Hold what one kernel wrote against what it should have written.

    Args:
        got: From the device.
        want: From the interpreter of tile programs, or from the CPU form.
        dtype: The type of the elements; `bfloat16` comes as 16-bit integers.

    Raises:
        WrongError: They differ by more than rounding.
    """
    if dtype in _LARGEST_ERROR:
        return _compare_floats(got, want, dtype)
    off = np.abs(got.astype(np.int64) - want.astype(np.int64))
    found = {"different": int((off > 0).sum()), "elements": int(off.size)}
    is_narrow = dtype in ("int8", "uint8")
    allowed = _MOST_OFF_BY_ONE * off.size if is_narrow and off.max(initial=0) <= 1 else 0
    if found["different"] > allowed:
        raise WrongError(f"{found['different']} of {off.size} integers differ", found)
    return found


def compare_model(got: Array, want: Array, bound: float) -> dict[str, Any]:
    """Hold the output of a model against the expected one, relative in the Euclidean norm.

    Raises:
        WrongError: The difference is above the bound, or there is a number on one side only.
    """
    a, b = got.astype(np.float64).reshape(-1), want.astype(np.float64).reshape(-1)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        raise WrongError("infinite or undefined numbers on one side only", {})
    finite = np.isfinite(b)
    norm = float(np.linalg.norm(b[finite])) or 1.0
    found = {"relative_error": float(np.linalg.norm(a[finite] - b[finite])) / norm}
    if found["relative_error"] > bound:
        raise WrongError(f"off by {found['relative_error']:.2g} of the norm", found)
    return found


def _compare_floats(got: Array, want: Array, dtype: str) -> dict[str, Any]:
    a, b = _wide(got, dtype), _wide(want, dtype)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        raise WrongError("infinite or undefined numbers on one side only", {})
    finite = np.isfinite(b)
    largest = float(np.abs(b[finite]).max(initial=0.0)) or 1.0
    error = float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / largest
    found = {"largest_error": error, "elements": int(b.size)}
    if error > _LARGEST_ERROR[dtype]:
        raise WrongError(f"off by {error:.2g} of the largest result", found)
    return found


def _wide(array: Array, dtype: str) -> Array:
    if dtype == "bfloat16":
        array = (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float64)
