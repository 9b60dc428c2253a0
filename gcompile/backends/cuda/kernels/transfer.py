"""How bytes of an operand come from global into shared memory.

From sm_80 on they are copied past the registers while others are multiplied. Before, threads load
them into registers, and store them when those are needed no more that lie there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gcompile.backends.cuda.program.program import (
    Buffer,
    CopyAsync,
    If,
    LoadWords,
    Set,
    Statement,
    StoreShared,
)
from gcompile.backends.cuda.program.scalar import Scalar, register, variable, word

WORD_BYTES = 4


@dataclass(frozen=True)
class Unit:
    """4, 8 or 16 bytes that a thread brings.

    Attributes:
        name: Prefix of the registers they pass through, `…_words`.
        address: Where they go in shared memory.
        index: Their first element in the buffer.
        condition: They exist; otherwise they are zeros.
    """

    name: str
    address: Scalar
    buffer: Buffer
    index: Scalar
    size: int
    condition: Scalar | None

    @property
    def words(self) -> tuple[Scalar, ...]:
        """The registers, for the pass that `i` counts."""
        count = self.size // WORD_BYTES
        first = variable("i") * count
        return tuple(register(f"{self.name}_words", first + w, "uint32") for w in range(count))


Transfer = Callable[[Unit], tuple[Statement, ...]]
"""What a thread does with one unit."""


def ask(unit: Unit) -> tuple[Statement, ...]:
    """Start copying it."""
    return (CopyAsync(unit.address, unit.buffer, unit.index, unit.size, unit.condition),)


def fetch(unit: Unit) -> tuple[Statement, ...]:
    """Load it into registers."""
    load = LoadWords(unit.words, unit.buffer, unit.index)
    if unit.condition is None:
        return (load,)
    return (*(Set(w, word(0)) for w in unit.words), If(unit.condition, (load,)))


def put(unit: Unit) -> tuple[Statement, ...]:
    """Store the registers."""
    return (StoreShared(unit.address, unit.words),)
