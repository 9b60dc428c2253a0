"""Take the numbers of one layer out of its kernel: scales, zero points, bounds.

Each becomes an argument's element, and every operation on it stays what it was, so results do not
change by a bit. Zero and one stay in the text: what they leave out is another, shorter kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.numbers import AT_ONCE, INTEGERS
from gcompile.backends.tvm.kernels.spec import (
    Binary,
    Constant,
    Expression,
    Load,
    PerChannel,
    Select,
    Source,
    Unary,
)

_IN_THE_TEXT = (0.0, 1.0, -1.0)


@dataclass(frozen=True)
class WithNumbers:
    """Epilogues whose numbers are arguments.

    Attributes:
        epilogues: Those that were given, which share their arguments.
        constants: The numbers, where there are any.
    """

    epilogues: tuple[Epilogue, ...]
    constants: tuple[NDArray[np.float32], ...]

    @property
    def epilogue(self) -> Epilogue:
        """The only one, or the last."""
        return self.epilogues[-1]


def with_numbers(*epilogues: Epilogue) -> WithNumbers:
    """Take the numbers out of epilogues with the same arguments; the last one's output is written.

    Where nothing is stored as integers, numbers are those of the operators, and stay where they
    are.
    """
    last = epilogues[-1]
    images = (last.output.image, *(source.image for source in last.sources))
    if not any(image.dtype in INTEGERS for image in images):
        return WithNumbers(epilogues, ())
    taking = _Taking(last)
    expressions = [taking.rewritten(epilogue.expression) for epilogue in epilogues]
    zero_point = last.output.zero_point
    place = None
    if zero_point and last.output.image.dtype in INTEGERS:
        place = taking.take(zero_point)
    numbers = np.zeros(-(-len(taking.values) // AT_ONCE) * AT_ONCE, np.float32)
    numbers[: len(taking.values)] = taking.values
    sources = tuple(
        Source(source.image) if source.image.dtype in INTEGERS else source
        for source in last.sources
    )
    written = replace(last.output, zero_point=0) if place is not None else last.output
    found = tuple(
        replace(
            epilogue,
            output=written,
            expression=expression,
            sources=sources,
            numbers=numbers.size,
            zero_point=place,
        )
        for epilogue, expression in zip(epilogues, expressions, strict=True)
    )
    return WithNumbers(found, (numbers,) if numbers.size else ())


@dataclass
class _Taking:
    epilogue: Epilogue
    values: list[float] = field(default_factory=list)
    known: dict[Expression, Expression] = field(default_factory=dict)

    def take(self, value: float) -> int:
        """Give a number its place."""
        self.values.append(value)
        return len(self.values) - 1

    def rewritten(self, node: Expression) -> Expression:
        """The same expression over numbers; what was equal stays equal."""
        if node not in self.known:
            self.known[node] = self._rewrite(node)
        return self.known[node]

    def _rewrite(self, node: Expression) -> Expression:
        match node:
            case Constant(value):
                return self._number(value)
            case Load(index):
                return self._loaded(node, self.epilogue.sources[index])
            case Unary("clip", operand, low, high):
                above = Binary("max", self._number(low), self.rewritten(operand))
                return Binary("min", self._number(high), above)
            case Unary(_, operand):
                return replace(node, operand=self.rewritten(operand))
            case Binary(function, left, right):
                return Binary(function, self.rewritten(left), self.rewritten(right))
            case Select(condition, left, right):
                parts = (self.rewritten(part) for part in (condition, left, right))
                return Select(*parts)
        return node

    def _loaded(self, node: Load, source: Source) -> Expression:
        """The real number of a stored integer: (stored - zero point) · scale."""
        if source.image.dtype not in INTEGERS:
            return node
        result: Expression = node
        if source.zero_point:
            result = Binary("sub", result, self._number(source.zero_point))
        if source.scale != 1.0:
            result = Binary("mul", result, self._number(source.scale))
        return result

    def _number(self, value: float) -> Expression:
        if value in _IN_THE_TEXT:
            return Constant(value)
        return PerChannel(self.epilogue.channel_vectors + self.take(value))
