"""The loop over the depth for groups of four warps, which multiply straight from shared memory.

    stages 0 … S - 3 are asked for
    for every stage of depth:
        it has arrived, for all threads, and is shown to the tensor cores
        its products are started
        the stage S - 2 further is asked for
        the products of the stage before are done

Copies and products both run while the threads go on. A stage is written again only after the
barrier that follows the wait for its products.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.fragments import WARP_COLUMN, WARP_ROW
from gcompile.backends.cuda.program.instruction import (
    GroupInstruction,
    Instruction,
    matrix_layout,
)
from gcompile.backends.cuda.program.matrix_statements import (
    BeginGroup,
    CommitGroup,
    MultiplyGroup,
    ShowToGroups,
    WaitGroup,
)
from gcompile.backends.cuda.program.program import (
    Barrier,
    Commit,
    For,
    If,
    Let,
    Registers,
    Statement,
    Wait,
)
from gcompile.backends.cuda.program.scalar import less, register, variable


@dataclass(frozen=True)
class GroupLoop:
    """The sums of one block, for `sm_90a`."""

    instruction: Instruction
    copies: Copies

    def statements(self) -> list[Statement]:
        """The whole loop; it leaves the sums in the registers `sums`."""
        tile = self.copies.tile
        ahead = tile.stages - 2
        first = min(ahead, self.copies.stages)
        stage = variable("stage")
        rows = WARP_ROW // GroupInstruction.rows * GroupInstruction.rows
        return [
            Registers("sums", self.instruction.sums, tile.warp_columns // 2, zero=True),
            *self.copies.prepare(),
            Let("a_matrix", rows * tile.depth_bytes),
            Let("b_matrix", (WARP_COLUMN + tile.rows) * tile.depth_bytes),
            For("stage", first, (*self.copies.ask(stage, stage), Commit()), unrolled=True),
            *[Commit()] * (ahead - first),
            BeginGroup(),
            For("step", self.copies.stages, tuple(self._step())),
            WaitGroup(0),
            Wait(0),
        ]

    def _step(self) -> list[Statement]:
        tile, step = self.copies.tile, variable("step")
        further = step + (tile.stages - 2)
        asked = self.copies.ask(further, further % tile.stages)
        instruction = GroupInstruction(self.instruction, tile.warp_columns)
        at = variable("stage") * tile.stage_bytes
        return [
            Let("stage", step % tile.stages),
            Wait(tile.stages - 3),
            ShowToGroups(),
            Barrier(),
            BeginGroup(),
            *(
                MultiplyGroup(
                    instruction,
                    register("sums", 0, self.instruction.sums),
                    variable("a_matrix") + at + offset,
                    variable("b_matrix") + at + offset,
                    matrix_layout(tile.depth_bytes),
                )
                for offset in range(0, tile.depth_bytes, self.instruction.depth_bytes)
            ),
            CommitGroup(),
            If(less(further, self.copies.stages), tuple(asked)),
            Commit(),
            WaitGroup(1),
        ]
