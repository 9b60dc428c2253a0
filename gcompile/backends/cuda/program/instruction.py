"""The tensor-core instructions as the generators see them: sizes, and what a register holds.

Every instruction reads its operands as rows of `depth_bytes` bytes along the depth of the product,
whatever the element type. A register holds four bytes of one row. Source: PTX ISA 8.7, section
9.7.14.5, "Matrix multiply-accumulate operation using mma instruction".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ASYNC_ARCH = 80
"""The first architecture with copies past the registers (`cp.async`) and today's `mma.sync`."""

Element = Literal["f16", "bf16", "tf32", "s8", "u8", "e4m3", "e5m2"]

ELEMENT_BYTES: dict[Element, int] = {
    "f16": 2,
    "bf16": 2,
    "tf32": 4,
    "s8": 1,
    "u8": 1,
    "e4m3": 1,
    "e5m2": 1,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One instruction of the device: which registers of the whole it reads, and adds to."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Instruction:
    """`mma.sync` for one pair of element types: m16n8 with 32 bytes of depth.

    Before sm_80 several smaller instructions make one: they read the same registers.

    Lane `4g + t` holds, in register r of the left operand, bytes `4t … 4t + 3` of the matrix
    (8 rows by 16 bytes) at `left_parts[r]`, row g. The right operand alike, its columns for rows.
    Of the sums it holds columns 2t and 2t + 1 of row g, then of row g + 8.

    Attributes:
        left: Element type of the left operand.
        right: Element type of the right operand.
        architecture: The lowest compute capability, as 10 · major + minor.
    """

    left: Element
    right: Element
    architecture: int = 80

    rows = 16
    columns = 8
    depth_bytes = 32
    left_parts = ((0, 0), (8, 0), (0, 16), (8, 16))
    right_parts = ((0, 0), (0, 16))
    sum_parts = ((0, 0), (0, 1), (8, 0), (8, 1))

    @property
    def element_bytes(self) -> int:
        """Bytes of one element of either operand."""
        return ELEMENT_BYTES[self.left]

    @property
    def depth(self) -> int:
        """Products that one instruction adds to each sum."""
        return self.depth_bytes // self.element_bytes

    @property
    def sums(self) -> Literal["int32", "float32"]:
        """The type of the sums."""
        return "int32" if self.left in ("s8", "u8") else "float32"

    @property
    def metadata_words(self) -> int:
        """Registers that say which two of four elements were kept, of 16 rows by 128 bytes."""
        return 1 if self.element_bytes == 2 else 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and bytes of depth of one instruction of the device."""
        if self.architecture >= ASYNC_ARCH:
            return self.rows, self.depth_bytes
        return (8 if self.sums == "int32" else 16), 16

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The instructions of the device, in their order."""
        rows, depth = self.shape

        def within(parts: tuple[tuple[int, int], ...], row: int, byte: int) -> tuple[int, ...]:
            inside = ((row <= r < row + rows, byte <= b < byte + depth) for r, b in parts)
            return tuple(i for i, both in enumerate(inside) if all(both))

        return tuple(
            Piece(
                within(self.left_parts, row, byte),
                tuple(i for i, (_, b) in enumerate(self.right_parts) if 0 <= b - byte < depth),
                tuple(i for i, (r, _) in enumerate(self.sum_parts) if 0 <= r - row < rows),
            )
            for byte in range(0, self.depth_bytes, depth)
            for row in range(0, self.rows, rows)
        )

    @property
    def name(self) -> str:
        """The PTX name of a piece."""
        sums = "s32" if self.sums == "int32" else "f32"
        rows, depth_bytes = self.shape
        shape = f"m{rows}n{self.columns}k{depth_bytes // self.element_bytes}"
        return f"mma.sync.aligned.{shape}.row.col.{sums}.{self.left}.{self.right}.{sums}"


@dataclass(frozen=True, slots=True)
class GroupInstruction:
    """`wgmma`: four warps multiply 64 rows by `columns` columns, both read from shared memory.

    The sums lie as those of `Instruction`: warp w of the group holds rows 16w … 16w + 15, and
    register 4j + r of a lane is sum r of the eight columns from 8j. Source: PTX ISA 8.7, section
    9.7.15, "Asynchronous warpgroup level matrix instructions".

    Attributes:
        element: Gives the element types and the depth.
        columns: A multiple of 16 up to 256.
    """

    element: Instruction
    columns: int

    rows = 64

    @property
    def name(self) -> str:
        """The PTX name."""
        sums = "s32" if self.element.sums == "int32" else "f32"
        shape = f"m{self.rows}n{self.columns}k{self.element.depth}"
        return (
            f"wgmma.mma_async.sync.aligned.{shape}.{sums}.{self.element.left}.{self.element.right}"
        )

    @property
    def immediates(self) -> str:
        """What follows the operands: the sign of both, and that no 16-bit one is transposed."""
        if self.element.sums == "int32":
            return ""
        return ", 1, 1, 0, 0" if self.element.left in ("f16", "bf16") else ", 1, 1"


@dataclass(frozen=True, slots=True)
class SparseInstruction:
    """`mma.sp`: rows of which two in four elements are kept, by eight columns.

    The rows are the weights: 32 bytes of what is kept, which stand for 64 bytes of depth.
    Registers hold them, and the sums, as those of `Instruction`; register r of the columns holds
    bytes 16r + 4t … 16r + 4t + 3 of column g. Two bits say which element was kept, in rising
    order, in the metadata of the lanes that the selector names. Source: PTX ISA 8.7, section
    9.7.14.6, "Matrix multiply-accumulate operation using mma.sp instruction with sparse matrix A".

    Attributes:
        element: Gives the element types; its right operand are the weights.
    """

    element: Instruction

    rows = 16
    columns = 8
    depth_bytes = 64
    architecture = ASYNC_ARCH

    @property
    def selectors(self) -> int:
        """Instructions whose metadata one register of all lanes holds."""
        return 2 // self.element.metadata_words

    @property
    def name(self) -> str:
        """The PTX name."""
        e = self.element
        sums = "s32" if e.sums == "int32" else "f32"
        shape = f"m{self.rows}n{self.columns}k{self.depth_bytes // e.element_bytes}"
        types = f"{sums}.{e.right}.{e.left}.{sums}"
        return f"mma.sp::ordered_metadata.sync.aligned.{shape}.row.col.{types}"


def matrix_layout(row_bytes: int) -> int:
    """All of a matrix descriptor but its address, for rows that are swizzled as `swizzle` says.

    Eight rows lie one after another, and the next eight after them. Source: PTX ISA 8.7, section
    9.7.15.5.1.2, "Matrix descriptor format": bits 16 to 29 are not used by swizzled layouts along
    the depth, bits 32 to 45 are the bytes between groups of eight rows over 16, bits 62 and 63 the
    mode.
    """
    mode = {128: 1, 64: 2}[row_bytes]
    return mode << 62 | (8 * row_bytes >> 4) << 32 | 1 << 16


INSTRUCTIONS: dict[str, Instruction] = {
    "f16": Instruction("f16", "f16"),
    "bf16": Instruction("bf16", "bf16"),
    "tf32": Instruction("tf32", "tf32"),
    "s8s8": Instruction("s8", "s8"),
    "u8s8": Instruction("u8", "s8"),
    "e4m3": Instruction("e4m3", "e4m3", architecture=89),
    "e5m2": Instruction("e5m2", "e5m2", architecture=89),
}

_TURING: dict[str, Instruction] = {
    "f16": Instruction("f16", "f16", architecture=75),
    "s8s8": Instruction("s8", "s8", architecture=75),
    "u8s8": Instruction("u8", "s8", architecture=75),
}


def instruction_for(name: str, arch: int) -> Instruction:
    """The instruction as an architecture has it, or as the first one does that has any.

    Args:
        name: One of `INSTRUCTIONS`.
        arch: 75 for sm_75.
    """
    return _TURING.get(name, INSTRUCTIONS[name]) if arch < ASYNC_ARCH else INSTRUCTIONS[name]
