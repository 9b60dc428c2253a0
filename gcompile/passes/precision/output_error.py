"""How far the outputs of a model moved, as one number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gcompile.passes.base import Arrays

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_TINY = 1e-30


@dataclass
class Noise:
    """Noise and signal of each floating-point output, summed over pieces of the rows.

    Attributes:
        sums: By output: the elements seen, their sum, the sum of their squares and that of the
            squares of the errors.
    """

    sums: dict[str, tuple[int, float, float, float]] = field(default_factory=dict)

    def add(self, expected: Arrays, actual: Arrays) -> None:
        """Compare some more rows."""
        for name, array in expected.items():
            if array.dtype.kind in "OSUb":
                continue
            want, got = of_one_size(array, actual[name])
            if not want.size:
                continue
            noise = float(((got - want) ** 2).sum()) if np.isfinite(got).all() else float("inf")
            count, total, squares, known = self.sums.get(name, (0, 0.0, 0.0, 0.0))
            self.sums[name] = (
                count + want.size,
                total + float(want.sum()),
                squares + float((want**2).sum()),
                known + noise,
            )

    @property
    def ratio(self) -> float:
        """Noise power over signal power, averaged over the outputs: 0 is exact.

        The signal is what varies around each output's mean over rows, so that a constant offset
        of the outputs does not hide an error.
        """
        found = [
            noise / max(squares - total * total / count, _TINY) if noise else 0.0
            for count, total, squares, noise in self.sums.values()
        ]
        return float(np.mean(found)) if found else 0.0


def of_one_size(want: Array, got: Array) -> tuple[Floats, Floats]:
    """Both in double precision, with zeros where only the other has elements.

    Outputs whose size the data decides differ in size where rounding changes what is found.
    """
    if want.shape == got.shape or want.ndim != got.ndim:
        return np.asarray(want, np.float64), np.asarray(got, np.float64)
    largest = np.maximum(want.shape, got.shape)
    found = []
    for array in (want, got):
        filled = np.zeros(largest)
        filled[tuple(map(slice, array.shape))] = array
        found.append(filled)
    return found[0], found[1]


def normalised_error(expected: Arrays, actual: Arrays) -> float:
    """Noise power over signal power of all rows at once, as `Noise.ratio` says."""
    noise = Noise()
    noise.add(expected, actual)
    return noise.ratio
