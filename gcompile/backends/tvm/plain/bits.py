"""Shifts, reinterpretation of bits, remainders and powers of whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.plain.code import (
    PlainCode,
    Tensors,
    broadcast,
    differ,
    dtype_of,
    loops,
    map_elements,
    number,
)

Formula = Callable[[ir.Node, Sequence[Expr], str], Expr]


def shift(node: ir.Node, operands: Sequence[Expr], dtype: str) -> Expr:
    """BitShift; by a negative number or by all bits, only the sign is left."""
    x, count = operands
    bits, zero = int(dtype.strip("uint")), number(0, dtype)
    too_far = count >= number(bits, dtype)
    if not dtype.startswith("u"):
        too_far = T.Or(too_far, count < zero)
    amount = T.Select(too_far, zero, count)
    if node.attributes.get_string("direction", "") == "LEFT":
        return T.Select(too_far, zero, T.shift_left(x, amount))
    only_sign = zero if dtype.startswith("u") else T.Select(x < zero, number(-1, dtype), zero)
    return T.Select(too_far, only_sign, T.shift_right(x, amount))


def bits_as(node: ir.Node, operands: Sequence[Expr], dtype: str) -> Expr:
    """BitCast."""
    source = dtype_of(node.inputs[0])
    if "bool" in (dtype, source):
        return T.Cast(dtype, operands[0])
    return operands[0] if source == dtype else T.reinterpret(dtype, operands[0])


def remainder(node: ir.Node, operands: Sequence[Expr], dtype: str) -> Expr:
    """Mod: with the sign of the dividend by fmod, and else with that of the divisor."""
    x, y = operands
    is_float, by_fmod = dtype.startswith("float"), node.attributes.get_int("fmod", 0) == 1
    if not is_float:
        zero = number(0, dtype)
        rest = T.truncmod(x, T.Select(T.EQ(y, zero), number(1, dtype), y))
        if by_fmod or dtype.startswith("u"):
            return rest
        other_sign = T.And(T.NE(rest, zero), differ(rest < zero, y < zero))
        return T.Select(other_sign, rest + y, rest)
    # Of float32 numbers, the remainder in double precision is exact, too.
    wide = T.call_extern("float64", "fmod", T.Cast("float64", x), T.Cast("float64", y))
    rest = T.Cast(dtype, wide)
    if by_fmod:
        return rest
    zero = number(0, dtype)
    other_sign = differ(rest < zero, y < zero)
    nothing = T.Select(y < zero, number(-0.0, dtype), zero)
    return T.Select(T.EQ(rest, zero), nothing, T.Select(other_sign, rest + y, rest))


_BITS_OF_EXPONENT = 6
"""Squarings: exponents up to 63 have six bits, and larger ones overflow."""


def power_code(node: ir.Node) -> PlainCode | str:
    """Pow whose base is a whole number."""
    dtype, exponent = (dtype_of(value) for value in node.inputs[:2])
    if "int" not in dtype:
        return "its base is no whole number"
    if "int" in exponent:
        return PlainCode(node, lambda tensors: _whole_power(node, tensors, dtype, exponent))
    return elementwise(_rounded_power)(node)


def _rounded_power(node: ir.Node, operands: Sequence[Expr], dtype: str) -> Expr:
    """The power of floats, without its fraction."""
    base, exponent = (T.Cast("float64", operand) for operand in operands)
    return T.Cast(dtype, T.pow(base, exponent))


def _whole_power(node: ir.Node, tensors: Tensors, dtype: str, exponent: str) -> None:
    """Square and multiply; a negative exponent gives what division would: -1, 0 or 1."""
    x, y = tensors.input(0), tensors.input(1)
    shape = ir.static_shape(node.outputs[0]) or (1,)
    one = number(1, dtype)
    result = T.alloc_buffer((1,), dtype, layout=None)
    square = T.alloc_buffer((1,), dtype, layout=None)
    left = T.alloc_buffer((1,), exponent, layout=None)
    output = tensors.output(0, shape)
    with loops(shape) as places:
        T.buffer_store(result, one, [0])
        T.buffer_store(square, broadcast(x, places), [0])
        T.buffer_store(left, broadcast(y, places), [0])
        with T.serial(0, _BITS_OF_EXPONENT):
            is_odd = T.NE(T.bitwise_and(left[0], number(1, exponent)), number(0, exponent))
            T.buffer_store(result, T.Select(is_odd, result[0] * square[0], result[0]), [0])
            T.buffer_store(square, square[0] * square[0], [0])
            T.buffer_store(left, T.shift_right(left[0], number(1, exponent)), [0])
        T.buffer_store(output, result[0], places)


def elementwise(formula: Formula) -> Callable[[ir.Node], PlainCode | str]:
    """Code that computes each element of the output by a formula of those of the inputs."""

    def code(node: ir.Node) -> PlainCode | str:
        dtype = dtype_of(node.outputs[0])

        def write(tensors: Tensors) -> None:
            buffers = [tensors.input(index) for index in range(len(node.inputs))]

            def element(places: list[Expr]) -> Expr:
                return formula(node, [broadcast(buffer, places) for buffer in buffers], dtype)

            map_elements(tensors, ir.static_shape(node.outputs[0]), element)

        return PlainCode(node, write)

    return code


CODES = {
    "BitCast": elementwise(bits_as),
    "BitShift": elementwise(shift),
    "Mod": elementwise(remainder),
}
