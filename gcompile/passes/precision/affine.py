"""Map real numbers to 8-bit integers: real = (stored - zero_point) · scale."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

U8_MAX = 255
S8_MAX = 127
_STEPS = 60
_IN_CACHE = 1 << 15
"""Weights that are worked on together, of 4 bytes."""

_SMALLEST_SCALE = 1e-30


StoredWeight = tuple[NDArray[np.int8], NDArray[np.float32]]
"""The integers of a weight, and the scale of each channel."""


class WeightRange(StrEnum):
    """How the scale of a weight channel is chosen."""

    ABSMAX = "absmax"
    MSE = "mse"


@dataclass(frozen=True, slots=True)
class Affine:
    """Scale and zero point of an unsigned 8-bit tensor; zero is always representable."""

    scale: float
    zero_point: int

    @classmethod
    def for_range(cls, low: float, high: float) -> Affine:
        """The mapping that covers [low, high] and zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / U8_MAX, _SMALLEST_SCALE)))
        if high == low:
            return cls(1.0, 0)
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, U8_MAX)))

    def round_trip(self, real: NDArray[np.floating]) -> NDArray[np.float64]:
        """Quantize and dequantize."""
        stored = np.clip(np.rint(real / self.scale) + self.zero_point, 0, U8_MAX)
        return np.asarray((stored - self.zero_point) * self.scale, dtype=np.float64)


def quantize_weight(weight: NDArray[np.floating], axis: int, method: WeightRange) -> StoredWeight:
    """Quantize to signed 8 bits, symmetric, with one scale per slice along `axis`."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    largest[largest == 0] = S8_MAX
    if method is WeightRange.MSE:
        largest = largest * _best_fractions(rows, largest)
    scales = np.maximum(largest / S8_MAX, _SMALLEST_SCALE).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    stored = np.rint(weight / scales.reshape(shape).astype(np.float64))
    return np.clip(stored, -S8_MAX, S8_MAX).astype(np.int8), scales


def _best_fractions(
    rows: NDArray[np.float64], largest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each row, the fraction of its largest magnitude with the least squared error."""
    best = np.ones(len(rows))
    together = max(_IN_CACHE // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), together):
        some = slice(start, start + together)
        units = (rows[some] * (S8_MAX / largest[some, None])).astype(np.float32)
        best[some] = _best_of_units(units)
    return best


def _best_of_units(units: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same for rows whose largest magnitude is 127."""
    best, least = np.ones(len(units)), np.full(len(units), np.inf)
    error = np.empty_like(units)
    for fraction in np.linspace(1.0, 0.4, _STEPS):
        np.multiply(units, np.float32(1 / fraction), out=error)
        np.rint(error, out=error)
        np.clip(error, -S8_MAX, S8_MAX, out=error)
        error *= np.float32(fraction)
        error -= units
        squares = np.einsum("ij,ij->i", error, error)
        better = squares < least
        best[better], least[better] = fraction, squares[better]
    return best
