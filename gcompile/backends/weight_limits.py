"""Which weights lie beside the library, and which in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightLimits:
    """Which weights are written to a file of their own.

    Attributes:
        file_bytes: Weights that take less together stay in the library.
        each_bytes: Smaller ones stay there anyway. All but 1 % of ResNet-50's bytes are in tensors
            of the size given here.
    """

    file_bytes: int = 8 << 20
    each_bytes: int = 64 << 10
