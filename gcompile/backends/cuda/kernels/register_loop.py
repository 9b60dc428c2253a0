"""The loop over the depth without asynchronous copies: a stage comes through registers.

    stage 0 is stored, stage 1 is loaded into registers
    for every stage of depth:
        for every step of the stage (32 bytes of depth):
            at the last step: the next stage is stored, the one after it is loaded into registers
            fragments of the next step are loaded
            fragments of this step are multiplied

So each load has a whole stage of products to arrive in. A stage is written again only after the
barrier that follows its last use.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.fragments import Fragments
from gcompile.backends.cuda.program.program import Barrier, For, If, Let, Scope, Statement
from gcompile.backends.cuda.program.scalar import Scalar, constant, less, variable


@dataclass(frozen=True)
class RegisterLoop:
    """The sums of one block, for processors before sm_80."""

    fragments: Fragments

    @property
    def copies(self) -> Copies:
        """What comes into shared memory."""
        return self.fragments.copies

    def statements(self) -> list[Statement]:
        """The whole loop; it leaves the sums in the registers `sums`."""
        fragments = self.fragments
        return [
            *fragments.registers(),
            *self.copies.words(),
            *self.copies.prepare(),
            *fragments.prepare(),
            Scope(tuple(self.copies.fetch(constant(0)))),
            *self.copies.put(constant(0)),
            *([Scope(tuple(self.copies.fetch(constant(1))))] if self.copies.stages > 1 else []),
            Barrier(),
            *fragments.load(0, constant(0)),
            For("step", self.copies.stages, tuple(self._step())),
        ]

    def _step(self) -> list[Statement]:
        fragments, step = self.fragments, variable("step")
        stage_bytes = self.copies.tile.stage_bytes
        result: list[Statement] = [
            Let("stage", step % 2),
            Let("next_stage", (step + 1) % 2),
        ]
        for part in range(fragments.steps):
            is_last = part == fragments.steps - 1
            if is_last:
                result += [
                    self._if_it_exists(step + 1, self.copies.put(variable("next_stage"))),
                    self._if_it_exists(step + 2, self.copies.fetch(step + 2)),
                    Barrier(),
                ]
            source = variable("next_stage" if is_last else "stage")
            result += fragments.load((part + 1) % fragments.steps, source * stage_bytes)
            result += fragments.multiply(part)
        return result

    def _if_it_exists(self, step: Scalar, body: list[Statement]) -> Statement:
        return If(less(step, self.copies.stages), tuple(body))
