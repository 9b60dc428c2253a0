"""Targets for what is clipped after it: an error that the clipping hides is none.

For f(y) = min(max(y, l), h) and a wanted y*, any prediction y serves that lies

    at y*       where l < y* < h
    up to l     where y* <= l
    from h on   where y* >= h

and the target of the next least-squares fit is what serves nearest to the current prediction.
Fitting to these in turns never raises the squared distances to what serves (majorize, then
minimize), which are no less than the squared errors of f.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gcompile import ir

Range = tuple[float, float]


def flat_outside(value: ir.Value) -> Range | None:
    """The range outside of which nothing that reads the value tells numbers apart, if any does."""
    reader = ir.only_reader(value)
    if reader is None or reader.domain:
        return None
    if reader.op_type == "Relu":
        return 0.0, math.inf
    if reader.op_type != "Clip":
        return None
    bounds = [-math.inf, math.inf]
    for index, given in enumerate(reader.inputs[1:]):
        if given is not None:
            bound = ir.constant_array(given)
            if bound is None:
                return None
            bounds[index] = float(bound)
    return bounds[0], bounds[1]


def clipped(
    wanted: NDArray[np.float32], found: NDArray[np.float32], flat: Range
) -> NDArray[np.float32]:
    """The targets, of the shape of both arrays."""
    low, high = (np.float32(bound) for bound in flat)
    below = np.where(wanted <= low, np.minimum(found, low), wanted)
    return np.where(wanted >= high, np.maximum(found, high), below)
