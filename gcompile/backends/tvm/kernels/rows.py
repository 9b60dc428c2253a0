"""Work on the channels of one pixel as a whole, in several passes over the first-level cache.

No row is cut short: the last vector is moved back over its neighbour, and a sum leaves out the
lanes that it has seen before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import evaluate, size
from gcompile.backends.tvm.kernels.function import Tensors, loop, scratch, share
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import Expression, Image, Kernel

Combine = Callable[[Expr, Expr], Expr]

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 2
"""Vectors taken side by side where a row has enough: sums wait for each other within one."""

_CHEAP = 6
"""Nodes up to which an operand is computed anew in each pass instead of being stored."""

_LEAST_ALIGNED = 257
"""Fewer float32 than this live on the stack, which is not aligned to vectors."""


def add(left: Expr, right: Expr) -> Expr:
    """The sum, as a `Combine`."""
    return left + right


@dataclass(frozen=True, slots=True)
class Row:
    """The vectors in which passes take `count` numbers."""

    count: int
    lanes: Lanes

    @classmethod
    def of(cls, count: int, vector_bits: int) -> Row:
        """Wide vectors where the row is long, and none wider than the row."""
        vector = vector_bits // _FLOAT_BITS
        if count >= 2 * _VECTORS_AT_ONCE * vector:
            return cls(count, Lanes(_VECTORS_AT_ONCE * vector))
        return cls(count, Lanes(min(vector, 2 ** (count.bit_length() - 1))))

    def memory(self) -> Buffer:
        """Room for the row, of the task's own."""
        return scratch(max(self.count, _LEAST_ALIGNED), "float32")

    def for_each(self, body: Callable[[Expr], None]) -> None:
        """Call `body(offset)` until every number was in a vector, some of them twice."""
        rest = self.count % self.lanes.count
        for_each_vector(self.count - rest, self.lanes.count, lambda offset, _: body(offset))
        if rest:
            body(self.count - self.lanes.count)

    def fold(
        self, term: Callable[[Expr], Expr], start: float = 0.0, combine: Combine = add
    ) -> Expr:
        """Combine the vectors `term(offset)` of the whole row into one scalar.

        `start` changes nothing when it is combined with a number.
        """
        total = self.register(start)
        self.fold_into([total], lambda offset: (term(offset),), start, combine)
        return bind(across(total, combine))

    def fold_into(
        self,
        totals: list[Register],
        terms: Callable[[Expr], tuple[Expr, ...]],
        start: float = 0.0,
        combine: Combine = add,
    ) -> None:
        """Combine the terms of every vector with totals that stay vectors, in one pass."""

        def take(offset: Expr) -> None:
            for total, term in zip(totals, terms(offset), strict=True):
                total.set(combine(total.value, self._unseen(offset, term, start)))

        self.for_each(take)

    def register(self, start: float) -> Register:
        """A register of the row's vectors."""
        register = Register.of("float32", self.lanes)
        register.set(self.lanes.splat(start))
        return register

    def _unseen(self, offset: Expr, value: Expr, start: float) -> Expr:
        seen = -self.count % self.lanes.count
        if not seen or not isinstance(offset, int) or offset + self.lanes.count < self.count:
            return value
        is_new = self.lanes.index(T.int32(0)) >= self.lanes.splat(seen, "int32")
        return T.Select(is_new, value, self.lanes.splat(start))


def operand_of_row(
    kernel: Kernel, operand: Expression, tensors: Tensors, row: Row
) -> Callable[[Position], Callable[[Expr], Expr]]:
    """A function from a pixel to a function from an offset to a vector of the operand.

    Call it once per task. A costly operand is stored when a pixel is named; others are computed
    whenever they are asked for.
    """
    asked = replace(kernel, expression=operand)

    def value(place: Position, offset: Expr) -> Expr:
        return bind(evaluate(asked, tensors, place.moved(offset), row.lanes))

    if size(operand) <= _CHEAP:
        return lambda place: lambda offset: value(place, offset)
    memory = row.memory()

    def stored(place: Position) -> Callable[[Expr], Expr]:
        def store(offset: Expr) -> None:
            T.buffer_store(memory, value(place, offset), [row.lanes.index(offset)])

        row.for_each(store)
        return lambda offset: memory[row.lanes.index(offset)]

    return stored


def across(register: Register, combine: Combine) -> Expr:
    """Combine the lanes of a register into one scalar, half with half."""
    while register.lanes.count > 1:
        half = Lanes(register.lanes.count // 2)
        halves = register.part(0, half), register.part(half.count, half)
        register = Register.of(register.buffer.dtype, half)
        register.set(combine(*halves))
    return register.value


def pixels_of_task(
    image: Image, task: Expr, threads: int, body: Callable[[Position], None]
) -> None:
    """Run `body` for the task's share of the pixels of all images, at their first channel."""
    height, width = image.height, image.width
    start, stop = share(image.batch * height * width, task, threads)

    def pixel(index: Expr) -> None:
        line = index // width if height * image.batch > 1 else 0
        batch = line // height if image.batch > 1 else 0
        body(Position(batch, line % height if height > 1 else 0, index % width, 0))

    loop(start, stop, pixel)
