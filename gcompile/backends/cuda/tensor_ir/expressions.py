"""Scalar expressions of TVM's tensor IR as text that is both CUDA C and C++."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import tirx
from tvm.sym import Analyzer

from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES
from gcompile.errors import CompileError

_BINARY = {
    tirx.Add: "+",
    tirx.Sub: "-",
    tirx.Mul: "*",
    tirx.Div: "/",
    tirx.Mod: "%",
    tirx.EQ: "==",
    tirx.NE: "!=",
    tirx.LT: "<",
    tirx.LE: "<=",
    tirx.GT: ">",
    tirx.GE: ">=",
    tirx.And: "&&",
    tirx.Or: "||",
    tirx.BitwiseAnd: "&",
    tirx.BitwiseOr: "|",
    tirx.BitwiseXor: "^",
    tirx.LShift: "<<",
    tirx.RShift: ">>",
}
_FLOORED = {tirx.FloorDiv: ("/", "floor_div"), tirx.FloorMod: ("%", "floor_mod")}
_EXTREME = {tirx.Max: "larger", tirx.Min: "smaller"}

_FUNCTIONS = {
    **{
        name: name
        for name in (
            *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh"),
            *("erf", "exp", "exp2", "floor", "fmod", "hypot", "ldexp", "log", "log10", "log1p"),
            *("log2", "nearbyint", "pow", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"),
        )
    },
    "fabs": "fabs",
    "round": "nearbyint",
}
"""TVM's name of a function, and that of C's; its `round` goes to even numbers in halfway cases."""

_OPERATORS = {
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "shift_left": "<<",
    "shift_right": ">>",
}

Reader = Callable[[Any, list[Any]], str]
"""Text that reads an element of a tensor, given its indices."""


@dataclass
class Expressions:
    """Prints expressions.

    Attributes:
        read: Prints the reading of an element.
        names: Text for variables: an identifier, or an expression in parentheses.
        analyzer: Knows the ranges of loop variables.
    """

    read: Reader
    names: dict[Any, str] = field(default_factory=dict)
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __call__(self, expression: Any) -> str:
        """Print one expression.

        Raises:
            CompileError: There is no text for a node in it.
        """
        kind = type(expression)
        if kind in _BINARY:
            return self._binary(_BINARY[kind], expression)
        if kind in _FLOORED:
            return self._floored(expression)
        if kind in _EXTREME:
            return self._extreme(_EXTREME[kind], expression)
        match expression:
            case tirx.IntImm():
                return integer(int(expression.value), dtype_of(expression))
            case tirx.FloatImm():
                return real(float(expression.value), dtype_of(expression))
            case tirx.Not():
                return f"(!{self(expression.a)})"
            case tirx.Cast():
                return self._cast(expression)
            case tirx.Select():
                return self._choice(
                    expression.condition, expression.true_value, expression.false_value
                )
            case tirx.Let():
                self.names[expression.var] = f"({self(expression.value)})"
                return self(expression.body)
            case tvm.ir.TensorLoad():
                return self.read(expression.source, list(expression.indices))
            case tvm.ir.Call():
                return self._call(expression)
        if expression in self.names:
            return self.names[expression]
        raise CompileError(f"No CUDA text is known for {kind.__name__} in tensor IR.")

    def _binary(self, operator: str, expression: Any) -> str:
        text = f"({self(expression.a)} {operator} {self(expression.b)})"
        return narrowed(text, dtype_of(expression)) if operator in "+-*<<" else text

    def _floored(self, expression: Any) -> str:
        """C rounds towards zero, which is the same where nothing is negative."""
        operator, function = _FLOORED[type(expression)]
        a, b = self(expression.a), self(expression.b)
        bound = self.analyzer.const_int_bound(expression.a)
        divisor = self.analyzer.const_int_bound(expression.b)
        if bound.min_value >= 0 and divisor.min_value > 0:
            return f"({a} {operator} {b})"
        c_type = C_TYPES[dtype_of(expression)]
        return f"{function}<{c_type}>({a}, {b})"

    def _extreme(self, function: str, expression: Any) -> str:
        c_type = C_TYPES[dtype_of(expression)]
        return f"{function}<{c_type}>({self(expression.a)}, {self(expression.b)})"

    def _cast(self, expression: Any) -> str:
        to, value = dtype_of(expression), self(expression.value)
        if to == "bool":
            return f"({value} != 0)"
        return f"(({C_TYPES[to]}){value})"

    def _choice(self, condition: Any, true_value: Any, false_value: Any) -> str:
        c_type = C_TYPES[dtype_of(true_value)]
        return (
            f"({self(condition)} ? ({c_type}){self(true_value)} : ({c_type}){self(false_value)})"
        )

    def _call(self, call: Any) -> str:
        name = str(call.op.name).rpartition(".")[2]
        dtype = dtype_of(call)
        if name == "if_then_else":
            return self._choice(*call.args)
        arguments = [self(argument) for argument in call.args if not _is_text(argument)]
        if name in _FUNCTIONS:
            suffix = "" if dtype == "float64" else "f"
            return f"{_FUNCTIONS[name]}{suffix}({', '.join(arguments)})"
        if name in _OPERATORS:
            return narrowed(f"({arguments[0]} {_OPERATORS[name]} {arguments[1]})", dtype)
        match name:
            case "likely":
                return arguments[0]
            case "bitwise_not":
                return narrowed(f"(~{arguments[0]})", dtype)
            case "abs":
                return f"({arguments[0]} < 0 ? -{arguments[0]} : {arguments[0]})"
            case "rsqrt":
                return f"(1.0f / sqrtf({arguments[0]}))"
            case "sigmoid":
                return f"(1.0f / (1.0f + expf(-{arguments[0]})))"
            case "isnan":
                return f"({arguments[0]} != {arguments[0]})"
            case "isinf":
                return f"(fabsf({arguments[0]}) == INFINITE)"
            case "isfinite":
                return f"(fabsf({arguments[0]}) < INFINITE)"
            case "reinterpret":
                source = C_TYPES[dtype_of(call.args[0])]
                return f"bits_of<{C_TYPES[dtype]}>(({source}){arguments[0]})"
        raise CompileError(f"No CUDA text is known for the function {name!r} in tensor IR.")


def dtype_of(expression: Any) -> str:
    """The element type of an expression, as numpy names it."""
    return str(expression.ty.dtype)


def integer(value: int, dtype: str) -> str:
    """A literal; numbers beyond 32 bits say so."""
    if dtype == "bool":
        return "true" if value else "false"
    if value == -(2**63):
        return "(-9223372036854775807LL - 1)"
    suffix = ("U" if dtype.startswith("uint") else "") + ("LL" if abs(value) >= 2**31 - 1 else "")
    return f"({value}{suffix})" if value < 0 else f"{value}{suffix}"


def real(value: float, dtype: str) -> str:
    """A literal that keeps every bit."""
    if math.isnan(value):
        return "NOT_A_NUMBER"
    if math.isinf(value):
        return "INFINITE" if value > 0 else "(-INFINITE)"
    text = repr(value) if dtype == "float64" else f"{value!r}f"
    return f"({text})" if value < 0 else text


def narrowed(text: str, dtype: str) -> str:
    """C computes in at least 32 bits; narrower integers wrap around as TVM has them do."""
    return f"(({C_TYPES[dtype]}){text})" if dtype in ("int8", "int16", "uint8", "uint16") else text


def _is_text(argument: Any) -> bool:
    return isinstance(argument, tvm.ir.StringImm)
