"""The fragments of both operands: where they lie in a stage, and how they are multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.depth_rows import ELEMENT_BYTES, DepthRows
from gcompile.backends.cuda.kernels.swizzle import panel_address, shared_address
from gcompile.backends.cuda.program.instruction import Instruction
from gcompile.backends.cuda.program.matrix_statements import LoadMatrix, Multiply, RoundToTf32
from gcompile.backends.cuda.program.program import LANE, For, Let, Registers, Statement
from gcompile.backends.cuda.program.scalar import Scalar, register, variable

WARP_ROW, WARP_COLUMN = variable("warp_row"), variable("warp_column")
"""Where the warp begins within its block."""


@dataclass(frozen=True)
class Fragments:
    """What a warp multiplies. Two steps of 32 bytes of depth have registers."""

    instruction: Instruction
    copies: Copies

    @property
    def steps(self) -> int:
        """Steps of a stage."""
        return self.copies.tile.depth_bytes // self.instruction.depth_bytes

    def registers(self) -> list[Statement]:
        """Declare those of the sums, which begin at zero, and of the fragments."""
        rows, columns = self.copies.tile.fragments(self.instruction)
        return [
            Registers("sums", self.instruction.sums, 4 * rows * columns, zero=True),
            Registers("left", "uint32", 2 * 4 * rows),
            Registers("right", "uint32", 2 * 2 * columns),
        ]

    def prepare(self) -> list[Statement]:
        """Find once where each lane's fragments lie within a stage."""
        result: list[Statement] = []
        tile = self.copies.tile
        sides = (
            ("a", WARP_ROW * tile.depth_bytes, self.instruction.left_parts),
            ("b", (WARP_COLUMN + tile.rows) * tile.depth_bytes, _pair(self.instruction)),
        )
        for name, first, parts in sides:
            if name == "b" and self._is_depth_first:
                continue
            lane_row, lane_chunk = lane_place(parts)
            result.append(Let(f"{name}_lane_row", lane_row))
            for part in range(self.steps):
                chunk = lane_chunk + part * self.instruction.depth_bytes // CHUNK_BYTES
                address = shared_address(variable(f"{name}_lane_row"), chunk, tile.depth_bytes)
                result.append(Let(f"{name}_fragment{part}", address + first))
        return result

    def load(self, part: int, stage_bytes: Scalar) -> list[Statement]:
        """Load the fragments of one step into the half of the registers that it uses."""
        rows, columns = self.copies.tile.fragments(self.instruction)
        half, pitch = part % 2, self.copies.tile.depth_bytes
        i = variable("i")
        left = tuple(register("left", i * 4 + (half * 4 * rows + r), "uint32") for r in range(4))
        right = tuple(
            register("right", i * 4 + (half * 2 * columns + r), "uint32") for r in range(4)
        )
        result: list[Statement] = []
        for name, registers, count in (("a", left, rows), ("b", right, columns // 2)):
            if name == "b" and self._is_depth_first:
                address = self._transposed(part, i) + stage_bytes
                body: list[Statement] = [LoadMatrix(registers, address, transposed=True)]
            else:
                address = variable(f"{name}_fragment{part}") + i * (16 * pitch) + stage_bytes
                body = [LoadMatrix(registers, address)]
            if self.instruction.left == "tf32":
                body += [RoundToTf32(r) for r in registers]
            result.append(For("i", count, tuple(body), unrolled=True))
        return result

    @property
    def _is_depth_first(self) -> bool:
        return isinstance(self.copies.right, DepthRows)

    def _transposed(self, part: int, pair: Scalar) -> Scalar:
        """Where a lane's row of two fragments lies among rows of depth."""
        tile = self.copies.tile
        depth = (LANE & 15) + part * self.instruction.depth_bytes // ELEMENT_BYTES
        chunk = WARP_COLUMN // 8 + pair * 2 + (LANE >> 4)
        rows, row_bytes = tile.depth_bytes // ELEMENT_BYTES, tile.columns * ELEMENT_BYTES
        return panel_address(depth, chunk, rows, row_bytes) + tile.rows * tile.depth_bytes

    def advance(self) -> list[Statement]:
        """What each stage begins with: nothing."""
        return []

    def multiply(self, part: int) -> list[Statement]:
        """Add the products of one step."""
        half = part % 2
        rows, columns = self.copies.tile.fragments(self.instruction)
        i, j = variable("i"), variable("j")
        product = Multiply(
            self.instruction,
            tuple(
                register("sums", (i * columns + j) * 4 + r, self.instruction.sums)
                for r in range(4)
            ),
            tuple(register("left", i * 4 + (half * 4 * rows + r), "uint32") for r in range(4)),
            tuple(register("right", j * 2 + (half * 2 * columns + r), "uint32") for r in range(2)),
        )
        inner = For("j", columns, (product,), unrolled=True)
        return [For("i", rows, (inner,), unrolled=True)]


def _pair(instruction: Instruction) -> tuple[tuple[int, int], ...]:
    """The parts of two fragments of the right operand, side by side: one `ldmatrix` loads both."""
    parts = instruction.right_parts
    return (*parts, *((row + instruction.columns, byte) for row, byte in parts))


def lane_place(parts: Sequence[tuple[int, int]]) -> tuple[Scalar, Scalar]:
    """Row and chunk whose address a lane gives to `ldmatrix` for four parts (row, byte).

    Lanes 8i … 8i + 7 give the rows of part i. The four parts are the corners of a rectangle.
    """
    origin, first, second, _ = parts
    low, high = (LANE >> 3) & 1, LANE >> 4
    row = (LANE & 7) + low * (first[0] - origin[0]) + high * (second[0] - origin[0])
    byte = low * (first[1] - origin[1]) + high * (second[1] - origin[1])
    return row, byte // CHUNK_BYTES
