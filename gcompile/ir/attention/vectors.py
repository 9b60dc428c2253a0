"""Where the vectors of attention lie, and how they are stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir

_INTEGERS = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)


class NotAttentionError(Exception):
    """Nodes are not attention, or not as a kernel reads it; the message says why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How the heads of one tensor lie in memory; the elements of a vector lie side by side.

    Attributes:
        batch_pitch: Elements from one sequence of the batch to the next.
        head_pitch: Elements from one head to the next.
        pitch: Elements from one vector of a head to the next.
        offset: Elements before the first vector of the first head.
    """

    batch_pitch: int
    head_pitch: int
    pitch: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """How the numbers of one tensor are stored: real = scale · (stored - zero_point).

    Tensors stored as floats have no scale.
    """

    dtype: onnx_ir.DataType
    scale: float = 1.0
    zero_point: int = 0

    @property
    def is_integer(self) -> bool:
        """Whether it must be decoded."""
        return self.dtype in _INTEGERS


@dataclass(frozen=True)
class Vectors:
    """Vectors in memory: the tensor, how it is stored, and where they lie in it."""

    value: onnx_ir.Value
    stored: Stored
    rows: Rows


@dataclass(frozen=True)
class Mask:
    """What changes scaled scores.

    Attributes:
        value: (…, 1 or queries, keys).
        hidden: What scores become where the value, a truth value, is `where`; None adds it.
    """

    value: onnx_ir.Value
    hidden: float | None = None
    where: bool = False


@dataclass(frozen=True)
class Reader:
    """What a kernel reads and writes in place.

    Attributes:
        types: The element types it knows.
        unit: Elements that it copies at once: vectors begin at multiples of it.
        takes_moves: The moves and conversions before an operand belong to what it does, and must
            not be read by anything else. Otherwise those of other regions stay where they are.
        rounds: It rounds weights as the graph does, and multiplies bytes with bytes only.
    """

    types: Collection[onnx_ir.DataType]
    unit: int = 1
    takes_moves: bool = False
    rounds: bool = False


WHOLE = Reader(
    (
        onnx_ir.DataType.FLOAT,
        onnx_ir.DataType.BFLOAT16,
        onnx_ir.DataType.FLOAT16,
        onnx_ir.DataType.UINT8,
        onnx_ir.DataType.INT8,
    ),
    takes_moves=True,
    rounds=True,
)
"""What reads attention that is one region."""
