"""The loop over the depth: copies run ahead through the stages while tensor cores multiply.

    stages 0 … S - 2 are asked for
    for every stage of depth:
        for every step of the stage (32 bytes of depth):
            at the last step: the next stage has arrived, for all threads
            fragments of the next step are loaded
            at the first step: the stage S - 1 further is asked for
            fragments of this step are multiplied

A stage is written again only after the barrier that follows its last use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.depth_rows import ELEMENT_BYTES, DepthRows
from gcompile.backends.cuda.kernels.swizzle import panel_address, shared_address
from gcompile.backends.cuda.program.instruction import Instruction
from gcompile.backends.cuda.program.program import (
    LANE,
    Barrier,
    Commit,
    For,
    If,
    Let,
    LoadMatrix,
    Multiply,
    Registers,
    RoundToTf32,
    Statement,
    Wait,
)
from gcompile.backends.cuda.program.scalar import Scalar, constant, less, register, variable

WARP_ROW, WARP_COLUMN = variable("warp_row"), variable("warp_column")
"""Where the warp begins within its block."""


@dataclass(frozen=True)
class MainLoop:
    """The sums of one block.

    Attributes:
        right_is_rounded: The right operand holds tf32 numbers already.
    """

    instruction: Instruction
    copies: Copies
    right_is_rounded: bool = False

    def statements(self) -> list[Statement]:
        """The whole loop; it leaves the sums in the registers `sums`."""
        tile, instruction = self.copies.tile, self.instruction
        rows, columns = tile.fragments(instruction)
        ahead = tile.stages - 1
        first = min(ahead, self.copies.stages)
        stage = variable("stage")
        return [
            Registers("sums", instruction.sums, 4 * rows * columns, zero=True),
            Registers("left", "uint32", 2 * 4 * rows),
            Registers("right", "uint32", 2 * 2 * columns),
            *self.copies.prepare(),
            *self._prepare(),
            For("stage", first, (*self.copies.ask(stage, stage), Commit()), unrolled=True),
            *[Commit()] * (ahead - first),
            Wait(ahead - 1),
            Barrier(),
            *self._load(0, constant(0)),
            For("step", self.copies.stages, tuple(self._step())),
        ]

    def _step(self) -> list[Statement]:
        tile, step = self.copies.tile, variable("step")
        steps = tile.depth_bytes // self.instruction.depth_bytes
        further = step + (tile.stages - 1)
        result: list[Statement] = [
            Let("stage", step % tile.stages),
            Let("next_stage", (step + 1) % tile.stages),
        ]
        for part in range(steps):
            is_last = part == steps - 1
            if is_last:
                result += [Wait(tile.stages - 2), Barrier()]
            source = variable("next_stage" if is_last else "stage")
            result += self._load((part + 1) % steps, source * tile.stage_bytes)
            if part == 0:
                asked = self.copies.ask(further, further % tile.stages)
                result += [If(less(further, self.copies.stages), tuple(asked)), Commit()]
            result += self._multiply(part % 2)
        return result

    def _prepare(self) -> list[Statement]:
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
            lane_row, lane_chunk = _lane_place(parts)
            result.append(Let(f"{name}_lane_row", lane_row))
            for part in range(tile.depth_bytes // self.instruction.depth_bytes):
                chunk = lane_chunk + part * self.instruction.depth_bytes // CHUNK_BYTES
                address = shared_address(variable(f"{name}_lane_row"), chunk, tile.depth_bytes)
                result.append(Let(f"{name}_fragment{part}", address + first))
        return result

    def _load(self, part: int, stage_bytes: Scalar) -> list[Statement]:
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
            if self.instruction.left == "tf32" and not (name == "b" and self.right_is_rounded):
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

    def _multiply(self, half: int) -> list[Statement]:
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


def _lane_place(parts: Sequence[tuple[int, int]]) -> tuple[Scalar, Scalar]:
    """Row and chunk whose address a lane gives to `ldmatrix` for four parts (row, byte).

    Lanes 8i … 8i + 7 give the rows of part i. The four parts are the corners of a rectangle.
    """
    origin, first, second, _ = parts
    low, high = (LANE >> 3) & 1, LANE >> 4
    row = (LANE & 7) + low * (first[0] - origin[0]) + high * (second[0] - origin[0])
    byte = low * (first[1] - origin[1]) + high * (second[1] - origin[1])
    return row, byte // CHUNK_BYTES
