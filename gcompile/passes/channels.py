"""Constants that hold one number per channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcompile import ir

Vector = NDArray[np.float64]


def is_per_channel(dims: tuple[int, ...], shape: tuple[int, ...], axis: int) -> bool:
    """Say whether a tensor of `dims` broadcasts to `shape` along every axis but `axis`."""
    if len(dims) > len(shape) or not shape:
        return all(d == 1 for d in dims) and len(dims) <= len(shape)
    axis %= len(shape)
    aligned = (1,) * (len(shape) - len(dims)) + dims
    others = aligned[:axis] + aligned[axis + 1 :]
    return all(d == 1 for d in others) and aligned[axis] in (1, shape[axis])


def channel_vector(value: ir.Value | None, shape: tuple[int, ...], axis: int) -> Vector | None:
    """Read a constant as one number per channel of a tensor of `shape`.

    Returns:
        The numbers, in double precision, as many as `shape[axis]`; None where the value is not a
        constant, or varies along another axis than the channels.
    """
    if value is None or not ir.is_constant(value):
        return None
    array = ir.constant_array(value)
    if array is None or not is_per_channel(array.shape, shape, axis):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (shape[axis],))
