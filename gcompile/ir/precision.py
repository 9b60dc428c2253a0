"""The number formats a region can compute in."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """A number format, by its common name."""

    FP64 = "fp64"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT32 = "int32"
    INT8 = "int8"

    @property
    def bits(self) -> int:
        """Storage of one element, in bits."""
        return _BITS[self]


_BITS = {
    Precision.FP64: 64,
    Precision.FP32: 32,
    Precision.FP16: 16,
    Precision.BF16: 16,
    Precision.INT32: 32,
    Precision.INT8: 8,
}
