"""Emit the expression of a kernel at one place of its output.

The usual call is `write`, which evaluates the expression for one vector and stores it. Emitters
that hold the sums of several channels of a pixel use `Multiplication.write`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import vector_math
from gcompile.backends.tvm.kernels.function import Tensors
from gcompile.backends.tvm.kernels.image_access import Position, load, store
from gcompile.backends.tvm.kernels.lanes import Lanes, bind
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Kernel,
    Load,
    PerChannel,
    Select,
    Unary,
)


def write(
    kernel: Kernel,
    tensors: Tensors,
    position: Position,
    lanes: Lanes,
    accumulator: Expr | None = None,
) -> None:
    """Evaluate the kernel's expression and store it.

    Args:
        kernel: The kernel whose expression is evaluated.
        tensors: Its buffers.
        position: The pixel, and the first channel that is written.
        lanes: How many consecutive channels; all must exist.
        accumulator: The float32 vector that stands for `Accumulator`.
    """
    real = evaluate(kernel, tensors, position, lanes, accumulator)
    store(kernel.output, tensors.output, position, real, lanes)


def evaluate(
    kernel: Kernel,
    tensors: Tensors,
    position: Position,
    lanes: Lanes,
    accumulator: Expr | None = None,
) -> Expr:
    """The real values of the kernel's expression as a float32 vector. Equal nodes share code."""
    evaluation = _Evaluation(kernel, tensors, position, lanes, accumulator)
    return evaluation.value(kernel.expression)


def size(expression: Expression) -> int:
    """How many nodes are emitted for an expression."""
    return len(_nodes(expression))


def _nodes(expression: Expression) -> set[Expression]:
    match expression:
        case Unary(_, operand):
            return {expression} | _nodes(operand)
        case Binary(_, left, right):
            return {expression} | _nodes(left) | _nodes(right)
        case Select(condition, left, right):
            return {expression} | _nodes(condition) | _nodes(left) | _nodes(right)
        case _:
            return {expression}


_BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda left, right: left + right,
    "sub": lambda left, right: left - right,
    "mul": lambda left, right: left * right,
    "div": lambda left, right: left / right,
    "max": T.max,
    "min": T.min,
}

_COMPARISON: dict[str, Callable[[Expr, Expr], Expr]] = {
    "less": lambda left, right: left < right,
    "less_equal": lambda left, right: left <= right,
    "equal": lambda left, right: left == right,
}


@dataclass(slots=True)
class _Evaluation:
    """One walk over an expression tree."""

    kernel: Kernel
    tensors: Tensors
    position: Position
    lanes: Lanes
    accumulator: Expr | None
    known: dict[Expression, Expr] = field(default_factory=dict)

    def value(self, node: Expression) -> Expr:
        if node not in self.known:
            self.known[node] = bind(self._emit(node))
        return self.known[node]

    def _emit(self, node: Expression) -> Expr:
        match node:
            case Accumulator():
                if self.accumulator is None:
                    raise ValueError("This kind of kernel has no accumulator to refer to.")
                return self.accumulator
            case Load(index):
                source, buffer = self.kernel.sources[index], self.tensors.sources[index]
                return load(source, buffer, self.position, self.lanes)
            case PerChannel(index):
                channels = self.lanes.index(self.position.channel)
                return self.tensors.channel_vectors[index][channels]
            case Constant(number):
                return self.lanes.splat(number)
            case Unary(function, operand, alpha, beta):
                return vector_math.UNARY[function](self.value(operand), self.lanes, alpha, beta)
            case Binary("pow", left, right):
                return self._power(left, right)
            case Binary(function, left, right) if function in _COMPARISON:
                holds = _COMPARISON[function](self.value(left), self.value(right))
                return T.Select(holds, self.lanes.splat(1.0), self.lanes.splat(0.0))
            case Binary(function, left, right):
                return _BINARY[function](self.value(left), self.value(right))
            case Select(condition, left, right):
                holds = self.value(condition) != self.lanes.splat(0.0)
                return T.Select(holds, self.value(left), self.value(right))

    def _power(self, base: Expression, exponent: Expression) -> Expr:
        """Small whole exponents and the square root are exact; the rest goes through log."""
        x = self.value(base)
        if isinstance(exponent, Constant):
            number = exponent.value
            if number == 0.5:
                return T.sqrt(x)
            if number.is_integer() and 1 <= abs(number) <= 16:
                result = vector_math.integer_power(x, int(abs(number)))
                return result if number > 0 else self.lanes.splat(1.0) / result
        return vector_math.power(x, self.value(exponent), self.lanes)
