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

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES, BlockTile
from gcompile.backends.cuda.kernels.operands import OperandRows
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.program.instruction import Instruction
from gcompile.backends.cuda.program.program import (
    LANE,
    THREAD,
    Barrier,
    Commit,
    CopyAsync,
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
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    constant,
    less,
    register,
    variable,
)

FIRST_ROW, FIRST_COLUMN = variable("first_row"), variable("first_column")
WARP_ROW, WARP_COLUMN = variable("warp_row"), variable("warp_column")
FIRST_DEPTH = variable("first_depth")
"""Where the block and the warp begin; `first_depth` in elements."""

_REPEAT = 8
"""Rows after which the places of chunks repeat."""


@dataclass(frozen=True)
class MainLoop:
    """The sums of one block.

    Attributes:
        left: Rows of the product.
        right: Columns of the product, each with its depth side by side.
        right_is_rounded: The right operand holds tf32 numbers already.
    """

    instruction: Instruction
    tile: BlockTile
    left: OperandRows
    right: OperandRows
    right_is_rounded: bool = False

    @property
    def stages(self) -> int:
        """Stages of depth that one block walks."""
        depth_bytes = self.left.depth * self.instruction.element_bytes
        return math.ceil(math.ceil(depth_bytes / self.tile.depth_bytes) / self.tile.split)

    @property
    def stage_depth(self) -> int:
        """Elements of depth in one stage."""
        return self.tile.depth_bytes // self.instruction.element_bytes

    def statements(self) -> list[Statement]:
        """The whole loop; it leaves the sums in the registers `sums`."""
        tile, instruction = self.tile, self.instruction
        rows, columns = tile.fragments(instruction)
        ahead = tile.stages - 1
        first = min(ahead, self.stages)
        stage = variable("stage")
        return [
            Registers("sums", instruction.sums, 4 * rows * columns, zero=True),
            Registers("left", "uint32", 2 * 4 * rows),
            Registers("right", "uint32", 2 * 2 * columns),
            *self._prepare(),
            For("stage", first, (*self._ask(stage, stage), Commit()), unrolled=True),
            *[Commit()] * (ahead - first),
            Wait(ahead - 1),
            Barrier(),
            *self._load(0, constant(0)),
            For("step", self.stages, tuple(self._step())),
        ]

    def _step(self) -> list[Statement]:
        tile, step = self.tile, variable("step")
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
                asked = self._ask(further, further % tile.stages)
                result += [If(less(further, self.stages), tuple(asked)), Commit()]
            result += self._multiply(part % 2)
        return result

    def _prepare(self) -> list[Statement]:
        """Addresses that do not change: of the thread's copies and of the lane's fragments."""
        result: list[Statement] = []
        tile = self.tile
        sides = (
            ("a", self.left, FIRST_ROW, tile.rows, WARP_ROW, self.instruction.left_parts),
            ("b", self.right, FIRST_COLUMN, tile.columns, WARP_COLUMN, _pair(self.instruction)),
        )
        start_bytes = 0
        for name, operand, first, rows, warp_first, parts in sides:
            units = tile.depth_bytes // operand.unit_bytes
            result.append(Let(f"{name}_row", THREAD // units))
            result.append(Let(f"{name}_unit", THREAD % units * operand.unit_bytes))
            mine = [first + variable(f"{name}_row") + i for i in self._passes(operand, rows)]
            result += operand.prepare(name, mine, self._has_slack(operand, rows))
            lane_row, lane_chunk = _lane_place(parts)
            result.append(Let(f"{name}_lane_row", lane_row))
            row, at = variable(f"{name}_lane_row"), warp_first * tile.depth_bytes + start_bytes
            for part in range(tile.depth_bytes // self.instruction.depth_bytes):
                chunk = lane_chunk + part * self.instruction.depth_bytes // CHUNK_BYTES
                address = shared_address(row, chunk, tile.depth_bytes) + at
                result.append(Let(f"{name}_fragment{part}", address))
            start_bytes += rows * tile.depth_bytes
        return result

    def _ask(self, step: Scalar, stage: Scalar) -> list[Statement]:
        """Start the copies of one stage of both operands."""
        tile = self.tile
        at = stage * tile.stage_bytes
        depth = FIRST_DEPTH + step * self.stage_depth
        return [
            *self._copy("a", self.left, tile.rows, depth, at),
            *self._copy("b", self.right, tile.columns, depth, at + tile.rows * tile.depth_bytes),
        ]

    def _copy(
        self, name: str, operand: OperandRows, rows: int, depth: Scalar, at: Scalar
    ) -> list[Statement]:
        tile = self.tile
        unit = variable(f"{name}_unit")
        ragged = operand.depth % (self.stage_depth * tile.split) != 0
        passes = self._passes(operand, rows)
        i = variable("i")
        index, condition = operand.place(name, i, self._has_slack(operand, rows), ragged)
        row = variable(f"{name}_row") + i * passes.step
        address = shared_address(row, unit // CHUNK_BYTES, tile.depth_bytes)
        if passes.step % _REPEAT == 0:  # All of the thread's rows keep their chunks in one place.
            first = shared_address(variable(f"{name}_row"), unit // CHUNK_BYTES, tile.depth_bytes)
            address = first + i * (passes.step * tile.depth_bytes)
        address = address + unit % CHUNK_BYTES if operand.unit_bytes < CHUNK_BYTES else address
        copy: Statement = CopyAsync(
            address + at, operand.buffer, index, operand.unit_bytes, condition
        )
        if rows % passes.step:
            copy = If(less(row, rows), (copy,))
        return [
            *operand.step(name, depth + unit // operand.buffer.element_bytes),
            For("i", len(passes), (copy,), unrolled=True),
        ]

    def _passes(self, operand: OperandRows, rows: int) -> range:
        """First rows of the passes in which the threads of a block cover `rows` rows."""
        units = self.tile.depth_bytes // operand.unit_bytes
        return range(0, rows, max(1, self.tile.threads // units))

    def _has_slack(self, operand: OperandRows, rows: int) -> bool:
        return operand.rows % rows != 0

    def _load(self, part: int, stage_bytes: Scalar) -> list[Statement]:
        """Load the fragments of one step into the half of the registers that it uses."""
        rows, columns = self.tile.fragments(self.instruction)
        half, pitch = part % 2, self.tile.depth_bytes
        i = variable("i")
        left = tuple(register("left", i * 4 + (half * 4 * rows + r), "uint32") for r in range(4))
        right = tuple(
            register("right", i * 4 + (half * 2 * columns + r), "uint32") for r in range(4)
        )
        result: list[Statement] = []
        for name, registers, count, height in (
            ("a", left, rows, 16),
            ("b", right, columns // 2, 16),
        ):
            address = variable(f"{name}_fragment{part}") + i * (height * pitch) + stage_bytes
            body: list[Statement] = [LoadMatrix(registers, address)]
            if self.instruction.left == "tf32" and not (name == "b" and self.right_is_rounded):
                body += [RoundToTf32(r) for r in registers]
            result.append(For("i", count, tuple(body), unrolled=True))
        return result

    def _multiply(self, half: int) -> list[Statement]:
        rows, columns = self.tile.fragments(self.instruction)
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
