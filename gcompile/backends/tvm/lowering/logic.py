"""Comparisons, logic and choices as expressions. Truth is 1, everything else 0."""

from __future__ import annotations

from collections.abc import Callable

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Binary, Constant, Expression, Select, Unary

_FALSE, _TRUE = Constant(0.0), Constant(1.0)

_OPERATORS: dict[str, Callable[..., Expression]] = {
    "Less": lambda left, right: Binary("less", left, right),
    "LessOrEqual": lambda left, right: Binary("less_equal", left, right),
    "Greater": lambda left, right: Binary("less", right, left),
    "GreaterOrEqual": lambda left, right: Binary("less_equal", right, left),
    "Equal": lambda left, right: Binary("equal", left, right),
    "And": lambda left, right: Binary("min", left, right),
    "Or": lambda left, right: Binary("max", left, right),
    "Xor": lambda left, right: differ(left, right),
    "Not": lambda operand: Binary("sub", _TRUE, operand),
    "IsNaN": lambda operand: Unary("is_nan", operand),
    "Where": Select,
}
LOGIC = frozenset(_OPERATORS)


def read_logic(node: ir.Node, read: Callable[[ir.Value | None], Expression]) -> Expression:
    """The expression of one node; `read` gives those of its inputs."""
    return _OPERATORS[node.op_type](*(read(value) for value in node.inputs))


def differ(left: Expression, right: Expression) -> Expression:
    """1 where two numbers are not equal, as NaN never is."""
    return Select(Binary("equal", left, right), _FALSE, _TRUE)


def truncated(operand: Expression) -> Expression:
    """A number without its fraction."""
    is_negative = Binary("less", operand, _FALSE)
    return Select(is_negative, Unary("ceil", operand), Unary("floor", operand))
