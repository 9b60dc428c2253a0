"""Scalar expressions of one thread, which print as CUDA C and evaluate in numpy.

Integers are 32-bit and must not overflow. Division and remainder take operands that are not
negative. What an operation means is in `OPERATIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.program.operations import OPERATIONS, DType


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value of one thread.

    Attributes:
        operation: `constant`, `variable`, `register` (an element of a register array; the operand
            is its index), or a key of `OPERATIONS`.
        value: The number of a constant, or the name of a variable or register array.
    """

    operation: str
    dtype: DType = "int32"
    operands: tuple[Scalar, ...] = ()
    value: int | float | str = 0

    def __add__(self, other: Scalar | int | float) -> Scalar:
        right = _lift(other, self)
        if _is(self, 0):
            return right
        if _is(right, 0) and self.dtype != "float32":
            return self
        return _apply("add", self, right)

    def __sub__(self, other: Scalar | int | float) -> Scalar:
        right = _lift(other, self)
        return self if _is(right, 0) else _apply("sub", self, right)

    def __mul__(self, other: Scalar | int | float) -> Scalar:
        right = _lift(other, self)
        if self.dtype != "float32" and (_is(self, 0) or _is(right, 0)):
            return constant(0)
        if _is(self, 1):
            return right
        return self if _is(right, 1) else _apply("mul", self, right)

    def __floordiv__(self, other: Scalar | int) -> Scalar:
        right = _lift(other, self)
        return self if _is(right, 1) else _apply("div", self, right)

    def __mod__(self, other: Scalar | int) -> Scalar:
        right = _lift(other, self)
        return constant(0) if _is(right, 1) else _apply("mod", self, right)

    def __xor__(self, other: Scalar | int) -> Scalar:
        right = _lift(other, self)
        return self if _is(right, 0) else _apply("xor", self, right)

    def __and__(self, other: Scalar | int) -> Scalar:
        return _apply("and", self, _lift(other, self))

    def __rshift__(self, other: Scalar | int) -> Scalar:
        return _apply("shift_right", self, _lift(other, self))

    def __lshift__(self, other: Scalar | int) -> Scalar:
        return _apply("shift_left", self, _lift(other, self))


def constant(value: int | float) -> Scalar:
    """A whole number is an int32, any other number a float32."""
    return Scalar("constant", "int32" if isinstance(value, int) else "float32", (), value)


def word(value: int) -> Scalar:
    """The bits of one register."""
    return Scalar("constant", "uint32", (), value)


def variable(name: str, dtype: DType = "int32") -> Scalar:
    """A named value: a loop counter, an index of the thread or block, or a `Let`."""
    return Scalar("variable", dtype, (), name)


def register(name: str, index: Scalar | int, dtype: DType) -> Scalar:
    """Element `index` of a register array; the index must be the same for all threads."""
    return Scalar(
        "register", dtype, (index if isinstance(index, Scalar) else constant(index),), name
    )


def apply(operation: str, *operands: Scalar | int | float) -> Scalar:
    """Apply an operation of the table; the result has the table's type or the first operand's."""
    like = next(o for o in operands if isinstance(o, Scalar))
    return _apply(operation, *(_lift(o, like) for o in operands))


def less(left: Scalar | int, right: Scalar | int) -> Scalar:
    """`left < right`."""
    if isinstance(left, int) and isinstance(right, int):
        raise TypeError("One side of a comparison must be an expression.")
    return apply("less", left, right)


def both(*conditions: Scalar | None) -> Scalar | None:
    """The conjunction of conditions; None stands for one that always holds."""
    held = None
    for condition in conditions:
        if condition is not None:
            held = condition if held is None else _apply("both", held, condition)
    return held


def select(condition: Scalar, left: Scalar | int | float, right: Scalar | int | float) -> Scalar:
    """`left` where the condition holds, else `right`."""
    like = left if isinstance(left, Scalar) else right
    if not isinstance(like, Scalar):
        like = constant(like)
    return Scalar("select", like.dtype, (condition, _lift(left, like), _lift(right, like)))


def _apply(operation: str, *operands: Scalar) -> Scalar:
    spec = OPERATIONS[operation]
    dtype = spec.dtype or operands[0].dtype
    if dtype == "int32" and all(o.operation == "constant" for o in operands):
        return constant(int(spec.compute(*(o.value for o in operands))))
    return Scalar(operation, dtype, operands)


def _lift(value: Scalar | int | float, like: Scalar) -> Scalar:
    if isinstance(value, Scalar):
        return value
    return constant(float(value)) if like.dtype == "float32" else constant(int(value))


def _is(value: Scalar, number: int) -> bool:
    return value.operation == "constant" and value.value == number
