"""Count what a matrix product costs on arrays whose cells are the weights.

Voltages along the rows, currents summed along the columns (ISAAC, Shafiee et al., ISCA 2016). Each
array multiplies a vector of `rows` numbers with `columns` columns of weights at once; what it
costs is to convert the vector to analog and every column's sum back:

    conversions in   M · K · ⌈N / columns⌉
    conversions out  M · N · ⌈K / rows⌉

Sums of more than `rows` products are added digitally: each further part is written to the buffer
and read back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.ir import Contraction
from gcompile.targets import Array

_SUM_BYTES = 2


@dataclass(frozen=True, slots=True)
class Conversions:
    """The analog side of one product.

    Attributes:
        inputs: Numbers that become voltages.
        outputs: Sums that become numbers.
        steps: Vectors times arrays: each takes an array one cycle.
        buffer_reads: Bytes the buffer gives.
        buffer_writes: Bytes it takes.
    """

    inputs: float
    outputs: float
    steps: float
    buffer_reads: float
    buffer_writes: float


def conversions(sizes: Contraction, array: Array) -> Conversions:
    """Count the conversions of one product with one group."""
    across, down = math.ceil(sizes.n / array.columns), math.ceil(sizes.k / array.rows)
    inputs, outputs = sizes.m * sizes.k * across, sizes.m * sizes.n * down
    return Conversions(
        inputs=float(inputs),
        outputs=float(outputs),
        steps=float(sizes.m * across * down),
        buffer_reads=float(inputs + sizes.m * sizes.n * (down - 1) * _SUM_BYTES),
        buffer_writes=float(sizes.m * sizes.n + sizes.m * sizes.n * (down - 1) * _SUM_BYTES),
    )
