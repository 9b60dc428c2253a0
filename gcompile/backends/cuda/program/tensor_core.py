"""What `mma.sync` and `ldmatrix` do, lane by lane, written from the PTX manual alone.

Nothing here is shared with the generators: the element maps below follow the tables "matrix
fragments" of PTX ISA 8.7, sections 9.7.14.5.8 (m16n8k16, 16-bit), 9.7.14.5.7 (m16n8k8, tf32 and
f16), 9.7.14.5.10 (m16n8k32, 8-bit) and 9.7.14.5.3 (m8n8k16, 8-bit), and 9.7.14.5.15 (ldmatrix).

Products are exact and each instruction rounds its sum once to float32; devices add with fewer bits
of alignment, so float results agree to rounding only. Integer results are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np

from gcompile.backends.cuda.program.instruction import Element
from gcompile.backends.cuda.program.operations import Array

_LANE = np.arange(32)
GROUP, IN_GROUP = _LANE // 4, _LANE % 4

NUMPY: dict[Element, np.dtype[np.generic]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype(np.float32),
    "s8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
}


def multiply(
    left: Array,
    right: Array,
    sums: Array,
    elements: tuple[Element, Element],
    shape: tuple[int, int] = (16, 32),
) -> Array:
    """Execute one `mma.sync` with eight columns in many warps.

    Args:
        left: Registers (4, 2 or 1, warps, 32), uint32.
        right: Registers (2 or 1, warps, 32), uint32.
        sums: Registers (4 or 2, warps, 32), float32 or int64 that holds int32.
        elements: Element types of the left and the right operand.
        shape: Rows and bytes of depth: (16, 32), (16, 16) or (8, 16).

    Returns:
        The new sums, of the same shape and type.

    Raises:
        ArithmeticError: An integer sum leaves 32 bits.
    """
    rows, depth_bytes = shape
    places = _PLACES[shape]
    a = gather(left, elements[0], places[0], (rows, -1), depth_bytes)
    b = gather(right, elements[1], places[1], (-1, 8), depth_bytes)
    c = np.empty((sums.shape[1], rows, 8), sums.dtype)
    for i in range(len(sums)):
        row, column = sum_place(i)
        c[:, row, column] = sums[i]
    d = checked(a @ b + c, sums.dtype)
    result = np.empty_like(sums)
    for i in range(len(sums)):
        row, column = sum_place(i)
        result[i] = d[:, row, column]
    return result


def multiply_group(
    left: Array, right: Array, sums: Array, elements: tuple[Element, Element]
) -> Array:
    """Execute one `wgmma` with 32 bytes of depth in several groups of warps.

    Args:
        left: (groups, 64, 32) bytes: the rows.
        right: (groups, columns, 32) bytes: the columns, each with its depth side by side.
        sums: Registers (columns / 2, groups, 128), float32 or int64 that holds int32.
        elements: Element types of the left and the right operand.

    Returns:
        The new sums. Registers lie as PTX ISA 8.7, section 9.7.15.5.1.1.1, "Accumulator D", says.
    """
    a, b = (
        np.ascontiguousarray(operand).view(NUMPY[element]).astype(np.float64)
        for operand, element in zip((left, right), elements, strict=True)
    )
    thread = np.arange(128)
    result = np.empty_like(sums)
    products = a @ b.swapaxes(1, 2)
    for i in range(len(sums)):
        row = thread // 32 * 16 + thread % 32 // 4 + 8 * (i // 2 % 2)
        column = i // 4 * 8 + thread % 4 * 2 + i % 2
        result[i] = checked(products[:, row, column] + sums[i], sums.dtype)
    return result


def described_chunks(descriptor: int, rows: int) -> Array:
    """Byte addresses (rows, 2) of the 16-byte chunks of 32 bytes of depth that a descriptor means.

    Source: PTX ISA 8.7, sections 9.7.15.5.1.2 (matrix descriptor) and 9.7.15.5.1 (swizzling: in
    patterns of 8 rows, bits 4 to 6 of the address are exchanged by exclusive or with bits 7 to 9;
    fewer bits in the narrower modes).
    """
    start = (descriptor & 0x3FFF) << 4
    stride = (descriptor >> 32 & 0x3FFF) << 4
    pitch, bits = {1: (128, 7), 2: (64, 3), 3: (32, 1)}[descriptor >> 62 & 3]
    row = np.arange(rows)[:, None]
    address = start + row // 8 * stride + row % 8 * pitch + 16 * np.arange(2)
    return np.asarray(address ^ (address >> 7 & bits) << 4)


def load_matrix(rows: Array, transposed: bool) -> Array:
    """Execute one `ldmatrix`.

    Args:
        rows: (matrices, warps, 8, 16) bytes: what lies at the addresses of lanes 8i … 8i + 7.
        transposed: Whether lanes receive the transposed matrix of 16-bit elements.

    Returns:
        (matrices, warps, 32) uint32: lane T holds elements 2(T % 4) and the next of row T / 4.
    """
    elements = np.ascontiguousarray(rows).view(np.uint16)
    if transposed:
        elements = elements.swapaxes(-1, -2)
    pairs = np.stack(
        [elements[..., GROUP, 2 * IN_GROUP], elements[..., GROUP, 2 * IN_GROUP + 1]], -1
    )
    return np.ascontiguousarray(pairs).view(np.uint32)[..., 0]


def round_to_tf32(bits: Array) -> Array:
    """`cvt.rna.tf32.f32`: 10 bits of mantissa, to nearest, halves away from zero."""
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = (bits.astype(np.uint64) + 0x1000) & 0xFFFFE000
    return np.where(finite, rounded, bits).astype(np.uint32)


def checked(sums: Array, dtype: np.dtype[np.generic]) -> Array:
    """Round sums to float32, or see that integers are of 32 bits.

    Raises:
        ArithmeticError: One is not.
    """
    if dtype != np.float32 and np.any(np.abs(sums) >= 2**31):
        raise ArithmeticError("A sum of a tensor core overflows 32 bits.")
    return np.asarray(sums.astype(dtype))


def left_place(i: int, width: int) -> tuple[Array, Array]:
    """Row and column of element i of A in every lane; `width` bytes for an element."""
    if width == 4:
        return GROUP + 8 * (i % 2), IN_GROUP + 4 * (i // 2)
    if width == 2:
        row = GROUP if i in (0, 1, 4, 5) else GROUP + 8
        return row, 2 * IN_GROUP + (i & 1) + (8 if i >= 4 else 0)
    row = GROUP if 0 <= i < 4 or 8 <= i < 12 else GROUP + 8
    return row, 4 * IN_GROUP + (i & 3) + (16 if i >= 8 else 0)


def _right_place(i: int, width: int) -> tuple[Array, Array]:
    """Row and column of element i of B in every lane."""
    if width == 4:
        return IN_GROUP + 4 * i, GROUP
    if width == 2:
        return 2 * IN_GROUP + (i & 1) + (8 if i >= 2 else 0), GROUP
    return 4 * IN_GROUP + (i & 3) + (16 if i >= 4 else 0), GROUP


def sum_place(i: int) -> tuple[Array, Array]:
    """Row and column of element i of C and D in every lane."""
    return GROUP if i < 2 else GROUP + 8, 2 * IN_GROUP + (i & 1)


def _short_left_place(i: int, width: int) -> tuple[Array, Array]:
    """The same of m16n8k8 for f16."""
    assert width == 2
    return GROUP if i < 2 else GROUP + 8, 2 * IN_GROUP + (i & 1)


def _short_right_place(i: int, width: int) -> tuple[Array, Array]:
    assert width == 2
    return 2 * IN_GROUP + i, GROUP


def _smallleft_place(i: int, width: int) -> tuple[Array, Array]:
    """The same of m8n8k16 for 8-bit integers."""
    assert width == 1
    return GROUP, 4 * IN_GROUP + i


def _small_right_place(i: int, width: int) -> tuple[Array, Array]:
    assert width == 1
    return 4 * IN_GROUP + i, GROUP


_Place = Callable[[int, int], tuple[Array, Array]]

_PLACES: dict[tuple[int, int], tuple[_Place, _Place]] = {
    (16, 32): (left_place, _right_place),
    (16, 16): (_short_left_place, _short_right_place),
    (8, 16): (_smallleft_place, _small_right_place),
}


def gather(
    registers: Array,
    element: Element,
    place: _Place,
    shape: tuple[int, int],
    depth_bytes: int,
) -> Array:
    """Put the elements of all lanes where the matrix has them: (warps, rows, columns)."""
    dtype = NUMPY[element]
    count = 4 // dtype.itemsize
    depth = depth_bytes // dtype.itemsize
    rows, columns = (depth if s < 0 else s for s in shape)
    if element == "tf32":
        registers = registers & 0xFFFFE000  # The unit does not see the 13 lowest bits.
    words = np.ascontiguousarray(registers.astype("<u4"))
    values = words[..., None].view(dtype).astype(np.float64)
    matrix = np.full((registers.shape[1], rows, columns), np.nan)
    for i in range(len(registers) * count):
        row, column = place(i, dtype.itemsize)
        matrix[:, row, column] = values[i // count, :, :, i % count]
    return matrix
