"""Weights of four or eight bits in the order in which the lanes of a warp read them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

COLUMNS = 16
"""Columns of the product whose weights one instruction multiplies."""

RUN = 32
"""Elements of depth whose weights make two instructions."""


def unit_of(bits: int) -> int:
    """Elements of depth of 16 bytes per lane, which holds those of two columns."""
    return 16 * 8 // bits // COLUMNS * RUN


def pack_stored(
    numbers: NDArray[np.generic], bits: int, has_points: bool = False
) -> NDArray[np.uint8]:
    """Bring weights into the order in which lanes read them.

    Args:
        numbers: (n, k): signed, or with `has_points` not negative, of so many bits.
        bits: 4 or 8.
        has_points: Weights have zero points of their own.

    Returns:
        Bytes (columns / 16, units, 32 lanes, 16).
    """
    unit = unit_of(bits)
    n, k = numbers.shape
    offset = 0 if has_points else 1 << (bits - 1)
    columns, units = math.ceil(n / COLUMNS), math.ceil(k / unit)
    stored = np.zeros((columns * COLUMNS, units * unit), np.uint32)
    stored[:n, :k] = numbers.astype(np.int64) + offset
    # (column tile, half, g, unit, run, t, step, pair, element)
    parts = stored.reshape(columns, 2, 8, units, unit // RUN, 4, 2, 2, 2)
    # Register i of an instruction holds half i % 2 of the columns, pair i // 2 of its depth.
    ordered = parts.transpose(0, 3, 2, 5, 4, 6, 7, 1, 8)  # tile, unit, g, t, run, step, pair, half
    registers = ordered.reshape(columns, units, 32, unit // RUN, 2, 4, 2)
    if bits == 8:
        return np.ascontiguousarray(registers.astype(np.uint8)).reshape(columns, units, 32, 16)
    shifts = np.arange(4)[:, None] * 4 + np.array([0, 16])
    words = (registers << shifts.astype(np.uint32)).sum(axis=(-1, -2), dtype=np.uint32)
    return np.ascontiguousarray(words).view(np.uint8).reshape(columns, units, 32, 16)


def unpack_stored(packed: NDArray[np.uint8], n: int, k: int, bits: int) -> NDArray[np.float32]:
    """Read back what `pack_stored` wrote: (n, k) numbers, none negative, as they are stored."""
    unit = unit_of(bits)
    columns, units = math.ceil(n / COLUMNS), math.ceil(k / unit)
    if bits == 8:
        registers = packed.astype(np.uint32)
    else:
        words = np.ascontiguousarray(packed).view(np.uint32).reshape(-1, 1, 1)
        shifts = np.arange(4, dtype=np.uint32)[:, None] * 4 + np.array([0, 16], np.uint32)
        registers = (words >> shifts) & np.uint32(15)
    parts = registers.reshape(columns, units, 8, 4, unit // RUN, 2, 2, 2, 2)
    # tile, unit, g, t, run, step, pair, half, element
    ordered = parts.transpose(0, 7, 2, 1, 4, 3, 5, 6, 8)
    return ordered.reshape(columns * COLUMNS, units * unit)[:n, :k].astype(np.float32)
