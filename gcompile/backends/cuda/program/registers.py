"""What registers hold in the interpreter, and how memory is read into them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.program import Buffer, Storage

NUMPY: dict[Storage, np.dtype[np.generic]] = {
    "float32": np.dtype(np.float32),
    "int32": np.dtype(np.int32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
}


def empty_registers(dtype: str, shape: tuple[int, ...], zero: bool) -> Array:
    """Registers that were never written hold what no program wants."""
    if dtype == "float32":
        return np.full(shape, 0.0 if zero else np.nan, np.float32)
    if dtype == "bool":
        return np.zeros(shape, bool)
    if dtype == "uint32":
        return np.full(shape, 0 if zero else 0x7FC0DEAD, np.uint32)
    return np.full(shape, 0 if zero else 0x7FC0DEAD, np.int64)


def to_words(values: Array) -> Array:
    """The bits that registers hold."""
    if values.dtype.kind == "f":
        return values.astype(np.float32).view(np.uint32)
    return values.astype(np.int64).astype(np.uint32)


def from_words(words: Array, dtype: str) -> Array:
    """What the bits mean in a register of the type."""
    if dtype == "float32":
        return words.view(np.float32)
    return words.view(np.int32).astype(np.int64) if dtype == "int32" else words


def wide(buffer: Buffer) -> np.dtype[np.generic]:
    """The type in which elements of a buffer are computed with."""
    floating = buffer.storage in ("float32", "float16", "bfloat16")
    return np.dtype(np.float32) if floating else np.dtype(np.int64)
