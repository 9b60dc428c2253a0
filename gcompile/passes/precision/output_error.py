"""How far the outputs of a model moved, as one number."""

from __future__ import annotations

import numpy as np

from gcompile.passes.base import Arrays

_TINY = 1e-30


def normalised_error(expected: Arrays, actual: Arrays) -> float:
    """Noise power over signal power, averaged over the floating-point outputs: 0 is exact.

    The signal is what varies around each output's mean over rows, so that a constant offset of
    the outputs does not hide an error.
    """
    errors = [
        _noise_to_signal(np.asarray(array, np.float64), np.asarray(actual[name], np.float64))
        for name, array in expected.items()
        if array.dtype.kind not in "OSUb" and array.size
    ]
    return float(np.mean(errors)) if errors else 0.0


def _noise_to_signal(
    expected: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    actual: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> float:
    if not np.isfinite(actual).all():
        return float("inf")
    signal = float(((expected - expected.mean()) ** 2).mean())
    noise = float(((actual - expected) ** 2).mean())
    return noise / max(signal, _TINY) if noise else 0.0
