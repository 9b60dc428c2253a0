"""Vector values of a fixed number of lanes, so that emitters never spell a type name.

One lane means a plain scalar: TensorIR has no vector of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tvm.tirx
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T


@dataclass(frozen=True, slots=True)
class Lanes:
    """A vector width. `count` is a power of two."""

    count: int

    def type(self, dtype: str) -> str:
        """The name of the vector type, as TensorIR spells it."""
        return dtype if self.count == 1 else f"{dtype}x{self.count}"

    def splat(self, value: float | Expr, dtype: str = "float32") -> Expr:
        """The same scalar, a Python number or a TensorIR one, in every lane."""
        scalar = tvm.tirx.const(value, dtype) if isinstance(value, int | float) else value
        return scalar if self.count == 1 else T.broadcast(scalar, self.count)

    def index(self, start: Expr) -> Expr:
        """The indices of consecutive elements."""
        return start if self.count == 1 else T.ramp(start, 1, self.count)

    def cast(self, dtype: str, value: Expr) -> Expr:
        """Convert the value of every lane."""
        return T.Cast(self.type(dtype), value)

    def reinterpret(self, dtype: str, value: Expr) -> Expr:
        """The same bits under another type of the same width."""
        return T.reinterpret(self.type(dtype), value)


@dataclass(frozen=True, slots=True)
class Register:
    """One vector that code assigns to again and again.

    It is a small buffer of its own. Below 1 KiB those live on the stack, where LLVM turns them
    into machine registers; a larger one, or one of scope "local", would be heap memory.
    """

    buffer: Buffer
    lanes: Lanes

    @classmethod
    def of(cls, dtype: str, lanes: Lanes) -> Register:
        """A new register; its value is undefined."""
        return cls(T.alloc_buffer((lanes.count,), dtype, layout=None), lanes)

    def set(self, value: Expr) -> None:
        """Assign a vector."""
        T.buffer_store(self.buffer, value, [self.lanes.index(0)])

    @property
    def value(self) -> Expr:
        """All lanes."""
        return self.part(0, self.lanes)

    def part(self, offset: int, lanes: Lanes) -> Expr:
        """Some consecutive lanes."""
        return self.buffer[lanes.index(offset)]


def bind(value: Expr) -> Expr:
    """Name a value: however often it is used, it is computed once.

    The name is a register of its own. A let-binding would do the same in the end, but the
    simplifier substitutes those, so that compiling time would grow exponentially with the length
    of a formula. Addresses are short: they use `T.Bind`.
    """
    dtype, _, count = str(value.ty.dtype).partition("x")
    register = Register.of(dtype, Lanes(int(count or 1)))
    register.set(value)
    return register.value


def pieces(count: int, width: int) -> list[tuple[int, Lanes]]:
    """Cover `count` elements by powers of two no wider than `width`: (offset, lanes) of each."""
    covered: list[tuple[int, Lanes]] = []
    offset = 0
    while offset < count:
        while width > count - offset:
            width //= 2
        covered.append((offset, Lanes(width)))
        offset += width
    return covered


def for_each_vector(count: int, width: int, body: Callable[[Expr, Lanes], None]) -> None:
    """Loop over `count` elements, `width` at a time, and never touch one beyond the last.

    `body` receives the first element's index and the lanes. What does not fill a vector is done
    in narrower ones.
    """
    vectors, rest = divmod(count, width)
    if vectors == 1:
        body(0, Lanes(width))
    elif vectors:
        with T.serial(vectors) as vector:
            body(vector * width, Lanes(width))
    for offset, lanes in pieces(rest, width):
        body(vectors * width + offset, lanes)
