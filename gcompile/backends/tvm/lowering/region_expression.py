"""What a region computes, as an expression with its operands."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Expression, PerChannel

FloatArray = NDArray[np.float32]


class CannotEmitError(Exception):
    """A region is not one our kernels can do; the reason says why. The fallback takes it."""


@dataclass(frozen=True)
class SourceValue:
    """A value the expression loads: a graph value, or a constant of the output's full shape."""

    value: ir.Value
    scale: float = 1.0
    zero_point: int = 0


@dataclass
class RegionExpression:
    """The expression of a region, its operands, and how its result is stored.

    Attributes:
        output: The value that leaves the region.
        out_scale: The scale of a quantized output, else 1.
        vectors: Per-channel float32 vectors, indexed by `PerChannel`.
        operand: What a kernel that sees whole rows reads before the expression.
    """

    expression: Expression
    output: ir.Value
    out_scale: float = 1.0
    out_zero_point: int = 0
    sources: list[SourceValue] = field(default_factory=list)
    vectors: list[FloatArray] = field(default_factory=list)
    operand: Expression | None = None

    def add_vector(self, vector: FloatArray) -> PerChannel:
        """Add a per-channel operand."""
        self.vectors.append(np.ascontiguousarray(vector, dtype=np.float32))
        return PerChannel(len(self.vectors) - 1)
