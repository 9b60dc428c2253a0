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

from dataclasses import dataclass

from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.fragments import Fragments
from gcompile.backends.cuda.kernels.sparse_fragments import SparseFragments
from gcompile.backends.cuda.program.program import (
    Barrier,
    Commit,
    For,
    If,
    Let,
    Statement,
    Wait,
)
from gcompile.backends.cuda.program.scalar import constant, less, variable


@dataclass(frozen=True)
class MainLoop:
    """The sums of one block."""

    fragments: Fragments | SparseFragments

    @property
    def copies(self) -> Copies:
        """What comes into shared memory."""
        return self.fragments.copies

    def statements(self) -> list[Statement]:
        """The whole loop; it leaves the sums in the registers `sums`."""
        fragments, tile = self.fragments, self.copies.tile
        ahead = tile.stages - 1
        first = min(ahead, self.copies.stages)
        stage = variable("stage")
        return [
            *fragments.registers(),
            *self.copies.prepare(),
            *fragments.prepare(),
            For("stage", first, (*self.copies.ask(stage, stage), Commit()), unrolled=True),
            *[Commit()] * (ahead - first),
            Wait(ahead - 1),
            Barrier(),
            *fragments.load(0, constant(0)),
            For("step", self.copies.stages, tuple(self._step())),
            Wait(0),
        ]

    def _step(self) -> list[Statement]:
        fragments, tile, step = self.fragments, self.copies.tile, variable("step")
        further = step + (tile.stages - 1)
        result: list[Statement] = [
            Let("stage", step % tile.stages),
            Let("next_stage", (step + 1) % tile.stages),
            *fragments.advance(),
        ]
        for part in range(fragments.steps):
            is_last = part == fragments.steps - 1
            if is_last:
                result += [Wait(tile.stages - 2), Barrier()]
            source = variable("next_stage" if is_last else "stage")
            result += fragments.load((part + 1) % fragments.steps, source * tile.stage_bytes)
            if part == 0:
                asked = self.copies.ask(further, further % tile.stages)
                result += [If(less(further, self.copies.stages), tuple(asked)), Commit()]
            result += fragments.multiply(part)
        return result
