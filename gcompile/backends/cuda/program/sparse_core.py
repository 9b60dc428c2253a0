"""What `mma.sp` does, lane by lane, written from the PTX manual alone."""

from __future__ import annotations

import numpy as np

from gcompile.backends.cuda.program.instruction import Element
from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.tensor_core import (
    GROUP,
    IN_GROUP,
    NUMPY,
    checked,
    gather,
    left_place,
    sum_place,
)


def multiply_sparse(
    left: Array,
    right: Array,
    sums: Array,
    metadata: Array,
    selector: int,
    elements: tuple[Element, Element],
) -> Array:
    """Execute one `mma.sp` of 32 kept bytes, which stand for 64, in many warps.

    Args:
        left: Registers (4, warps, 32), uint32: two of every four elements of 16 rows.
        right: Registers (4, warps, 32), uint32: eight columns.
        sums: Registers (4, warps, 32), float32 or int64 that holds int32.
        metadata: (warps, 32) uint32: two bits for each element that was kept.
        selector: Which lanes give the metadata.
        elements: Element types of the left and the right operand.

    Returns:
        The new sums. Fragments lie as PTX ISA 8.7, sections 9.7.14.6.2.2 (m16n8k32, 16-bit) and
        9.7.14.6.2.6 (m16n8k64, 8-bit), and the metadata as NVIDIA/cutlass has them:
        host_reorder.h (both), mma_traits_sm120_sparse.hpp (8-bit).

    Raises:
        ArithmeticError: The metadata names an element twice or in falling order, or an integer sum
            leaves 32 bits.
    """
    kept = gather(left, elements[0], left_place, (16, -1), 32)
    b = gather(right, elements[1], _long_right_place, (-1, 8), 64)
    bits = _selected_bits(metadata.astype(np.uint64), selector, NUMPY[elements[0]].itemsize)
    groups = kept.shape[2] // 2
    place = bits[..., None] >> 2 * np.arange(2 * groups, dtype=np.uint64) & np.uint64(3)
    if np.any(place[..., ::2] >= place[..., 1::2]):
        raise ArithmeticError("Metadata of a sparse product is not in rising order.")
    column = place.astype(np.int64) + np.arange(2 * groups) // 2 * 4
    a = np.zeros((*kept.shape[:2], 4 * groups))
    np.put_along_axis(a, column, kept, 2)
    products = a @ b
    result = np.empty_like(sums)
    for i in range(4):
        row, of_lane = sum_place(i)
        result[i] = checked(products[:, row, of_lane] + sums[i], sums.dtype)
    return result


def _long_right_place(i: int, width: int) -> tuple[Array, Array]:
    """Row and column of element i of the 64 bytes deep B of a sparse product."""
    per_register = 4 // width
    in_register = i % per_register
    return (
        per_register * IN_GROUP + in_register + i // per_register * 4 * per_register,
        GROUP,
    )


def _selected_bits(metadata: Array, selector: int, width: int) -> Array:
    """Two bits for each kept element of every row: (warps, 16), uint64.

    With 16-bit elements lanes 4g + 2s and the next have 16 columns each, of row g in their low
    half and of row g + 8 in their high half. With 8-bit ones lanes 4g and 4g + 2 have 32 columns
    each of row g, and those after them of row g + 8.
    """
    row = np.arange(8)
    if width == 2:
        first, second = (metadata[:, 4 * row + 2 * selector + i] for i in (0, 1))
        half = np.uint64(0xFFFF)
        low = (first & half) | (second & half) << np.uint64(16)
        high = first >> np.uint64(16) | second >> np.uint64(16) << np.uint64(16)
    else:
        low, high = (
            metadata[:, 4 * row + i] | metadata[:, 4 * row + 2 + i] << np.uint64(32)
            for i in (0, 1)
        )
    return np.concatenate([low, high], 1)
