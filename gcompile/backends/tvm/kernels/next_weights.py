"""Weights of the next block of channels are asked for while this one is computed.

The pixels of an image share the weights of a block of channels: only the first of them waits for
memory, and it waits for all of the block at once, as fast as a core can ask. While the others are
computed, nothing is asked for. So every block of pixels asks for its share of what comes next,
spread over its depth, into the second-level cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import prefetch

_LINE_BYTES = 64
_MOST_LINES = 4
"""Lines asked for in one turn. More would be in the way of the operands of this block."""

_SECOND_LEVEL = 2
"""LLVM's name for the cache that the lines go to."""


@dataclass(frozen=True, slots=True)
class NextWeights:
    """What the blocks of pixels of one block of channels ask for.

    Attributes:
        weights: The packed weights (see `packing`): blocks of channels lie one after the other.
        turns: Turns of the loop over depth that a block of pixels takes.
        lines: Cache lines that one turn asks for.
        shares: Blocks of pixels after which everything has been asked for.
    """

    weights: Buffer
    turns: int
    lines: int
    shares: int

    @classmethod
    def of(
        cls, weights: Buffer, vectors: int, pixel_blocks: int, turns: int
    ) -> NextWeights | None:
        """Divide the weights of so many vectors of channels among the blocks of pixels.

        None where there is nobody to share with, or no turn to ask in.
        """
        if pixel_blocks < 2 or not turns:
            return None
        needed = math.ceil(vectors * int(weights.shape[1]) / _steps_per_line(weights))
        lines = min(_MOST_LINES, math.ceil(needed / (turns * pixel_blocks)))
        return cls(weights, turns, lines, math.ceil(needed / (turns * lines)))

    def first_turn(self, pixel_block: Expr) -> Expr:
        """The number of the first turn of a block of pixels, over all of them."""
        return T.min(pixel_block, self.shares) * self.turns

    def ask(self, next_block: Expr, turn: Expr) -> None:
        """Ask for the lines of one turn, counted from the first block of the next channels."""
        steps = _steps_per_line(self.weights)
        for line in range(self.lines):
            step = (turn * self.lines + line) * steps
            prefetch(self.weights, (next_block, step, 0), _SECOND_LEVEL)


def _steps_per_line(weights: Buffer) -> int:
    step_bytes = int(weights.shape[2]) * np.dtype(weights.dtype).itemsize
    return max(1, _LINE_BYTES // int(step_bytes))
