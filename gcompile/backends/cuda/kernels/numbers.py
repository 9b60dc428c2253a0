"""Numbers that a kernel is given as an argument, so that it serves layers that differ in them.

Scales and zero points are those of one layer. As literals they would make each layer's kernel
another text, which takes a second to compile; as an argument they are a load of 16 bytes, from the
same address in all threads.
"""

from __future__ import annotations

from gcompile.backends.cuda.kernels.activation import maximum, minimum
from gcompile.backends.cuda.program.program import Buffer, LoadGlobal, Registers, Statement
from gcompile.backends.cuda.program.scalar import Scalar, apply, constant, register

AT_ONCE = 4
"""Numbers of one load."""

INTEGERS: dict[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255)}
"""The range of each integer type that is stored."""

_REGISTERS = "number"


def numbers_buffer(count: int) -> Buffer:
    """The argument: `count` numbers, a multiple of `AT_ONCE`."""
    return Buffer("numbers", "float32", count)


def load_numbers(count: int) -> list[Statement]:
    """Load the numbers of a kernel into registers; nothing where it has none."""
    if not count:
        return []
    loads = (
        LoadGlobal(
            tuple(number(start + i) for i in range(AT_ONCE)),
            numbers_buffer(count),
            constant(start),
        )
        for start in range(0, count, AT_ONCE)
    )
    return [Registers(_REGISTERS, "float32", count), *loads]


def number(index: int) -> Scalar:
    """One of the numbers, once they are loaded."""
    return register(_REGISTERS, index, "float32")


def stored_integer(scaled: Scalar, dtype: str, zero_point: Scalar) -> Scalar:
    """Round to the nearest integer of 8 bits, ties to even, around a zero point; it saturates.

    Args:
        scaled: In steps of the integers, float32.
        dtype: A key of `INTEGERS`.
        zero_point: A whole number, float32.
    """
    low, high = (
        apply("fsub", Scalar("constant", "float32", (), float(limit)), zero_point)
        for limit in INTEGERS[dtype]
    )
    held = minimum(high, maximum(low, scaled))
    return apply("float_to_s32", held) + apply("float_to_s32", zero_point)
